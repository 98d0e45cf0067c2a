"""Jinja2: templates of Starlette's, compiled once and shared."""

from fastapi import FastAPI, Request
from jinja2 import DictLoader, Environment
from starlette.templating import Jinja2Templates

NEEDS = ["fastapi", "jinja2"]
pages = {"page.html": "{% extends 'base.html' %}{% block body %}{{ name }} {{ url_for('root') }}{% endblock %}"}
pages["base.html"] = "<p>{% block body %}{% endblock %}</p>"
templates = Jinja2Templates(env=Environment(loader=DictLoader(pages), autoescape=True))
app = FastAPI()


@app.get("/")
async def root(request: Request):
    return templates.TemplateResponse(request, "page.html", {"name": "<x>"}, headers={"x": "y"})
