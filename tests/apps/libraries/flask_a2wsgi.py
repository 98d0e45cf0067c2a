"""Flask in a2wsgi: a WSGI application on a thread pool, with a session and a stream."""

from a2wsgi import WSGIMiddleware
from flask import Flask, Response, g, request, session

NEEDS = ["a2wsgi", "flask"]
CHECKS = [("GET", "/?q=1", 200), ("GET", "/stream", 200), ("POST", "/", 200, "x")]
flask = Flask(__name__)
flask.secret_key = "x"


@flask.before_request
def note():
    g.note = request.path


@flask.route("/", methods=["GET", "POST"])
def root():
    session["seen"] = 1
    return {"ok": g.note, "q": request.args.get("q"), "data": request.get_data(as_text=True)}


@flask.get("/stream")
def stream():
    return Response(iter(["a", "b", "c"]))


app = WSGIMiddleware(flask)
