"""Flask in asgiref's WsgiToAsgi: sync_to_async's threads."""

from asgiref.wsgi import WsgiToAsgi
from flask import Flask

NEEDS = ["asgiref", "flask"]
flask = Flask(__name__)


@flask.get("/")
def root():
    return {"ok": True}


app = WsgiToAsgi(flask)
