"""A Flask application as its manual begins one, for tests/processes_real.rs."""

from flask import Flask, request

app = Flask(__name__)


@app.route("/")
def index():
    return "here"


@app.route("/echo", methods=["POST"])
def echo():
    return request.get_data()
