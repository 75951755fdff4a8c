// The application of tests/real_servers.rs on Node's own http module: `node app.js PORT KEEP_ALIVE_MS`.
"use strict";
const http = require("node:http");
const crypto = require("node:crypto");

const [port, keepAlive] = process.argv.slice(2).map(Number);

// The same bytes as `support::pattern`: the highest byte of a 64-bit product.
function pattern(length) {
  const bytes = Buffer.alloc(length);
  // The product grows by the same step from place to place; it is kept in two halves of 32 bits.
  let high = 0, low = 0;
  for (let at = 0; at < length; at++) {
    bytes[at] = high >>> 24;
    low += 0x7f4a7c15;
    high = (high + 0x9e3779b9 + (low > 0xffffffff ? 1 : 0)) >>> 0;
    low = low >>> 0;
  }
  return bytes;
}

async function body(request) {
  const pieces = [];
  for await (const piece of request) pieces.push(piece);
  return Buffer.concat(pieces);
}

const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

const pages = {
  async "/echo"(request, response) {
    const content = await body(request);
    const framing = request.headers["transfer-encoding"] ? "chunked" : request.headers["content-length"] ?? "none";
    response.setHeader("X-Method", request.method);
    response.setHeader("X-Query", new URL(request.url, "http://a").search);
    response.setHeader("X-Framing", framing);
    response.setHeader("Content-Length", content.length);
    response.end(content);
  },
  async "/fields"(request, response) {
    response.end(Object.entries(request.headers).map(([name, value]) => `${name}: ${value}\n`).join(""));
  },
  async "/status"(request, response, query) {
    response.statusCode = Number(query.get("code"));
    response.setHeader("X-Said", "so");
    response.end();
  },
  async "/big"(request, response, query) {
    response.end(pattern(Number(query.get("bytes"))));
  },
  async "/digest"(request, response) {
    const digest = crypto.createHash("sha256");
    let length = 0;
    for await (const piece of request) {
      digest.update(piece);
      length += piece.length;
    }
    response.end(`${length} ${digest.digest("hex")}`);
  },
  async "/stream"(request, response, query) {
    for (let at = 0; at < Number(query.get("pieces")); at++) {
      if (at > 0) await sleep(Number(query.get("pause")));
      response.write(`piece ${at}\n`);
    }
    response.end();
  },
  async "/slow"(request, response, query) {
    await sleep(Number(query.get("ms")));
    response.end("late");
  },
  async "/until-close"(request, response) {
    response.useChunkedEncodingByDefault = false;
    response.setHeader("Connection", "close");
    response.removeHeader("Transfer-Encoding");
    response.write("no length, ");
    await sleep(50);
    response.end("to the end");
  },
  async "/hints"(request, response) {
    response.writeEarlyHints({ link: "</style.css>; rel=preload; as=style" });
    await sleep(50);
    response.end("page");
  },
  async "/trailers"(request, response) {
    const content = await body(request);
    response.setHeader("Trailer", "X-Digest, X-Got");
    response.write(content);
    const digest = crypto.createHash("sha256").update(content).digest("hex");
    response.addTrailers({ "X-Digest": digest, "X-Got": JSON.stringify(request.trailers) });
    response.end();
  },
};

const server = http.createServer((request, response) => {
  const url = new URL(request.url, "http://a");
  const page = pages[url.pathname];
  if (!page) {
    response.statusCode = 404;
    return response.end("no such page");
  }
  page(request, response, url.searchParams).catch(() => response.destroy());
});

// The handshake of RFC 6455 section 4.2.2, and an echo of masked frames of up to 125 bytes.
server.on("upgrade", (request, socket) => {
  const key = request.headers["sec-websocket-key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
  const accept = crypto.createHash("sha1").update(key).digest("base64");
  socket.write(
    `HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`,
  );
  let rest = Buffer.alloc(0);
  socket.on("data", (data) => {
    rest = Buffer.concat([rest, data]);
    for (;;) {
      const length = rest.length > 1 ? rest[1] & 0x7f : 0;
      if (rest.length < 6 + length || rest.length < 6) return;
      const content = Buffer.from(rest.subarray(6, 6 + length).map((byte, at) => byte ^ rest[2 + (at % 4)]));
      const opcode = rest[0] & 0x0f;
      socket.write(Buffer.concat([Buffer.from([0x80 | opcode, length]), content]));
      rest = rest.subarray(6 + length);
      if (opcode === 8) return socket.end();
    }
  });
  socket.on("error", () => socket.destroy());
});

server.keepAliveTimeout = keepAlive;
server.listen(port, "127.0.0.1");
