// An Express application as its manual begins one, for tests/processes_real.rs.
"use strict";
const express = require("express");

const app = express();
app.use(express.text({ type: () => true }));
app.get("/", (request, response) => response.send("here"));
app.post("/echo", (request, response) => response.send(request.body));
app.listen(process.env.PORT);
