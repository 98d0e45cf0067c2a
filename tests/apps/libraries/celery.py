"""Celery: tasks registered on an app, run at once, as tests do."""

from celery import Celery
from fastapi import FastAPI

NEEDS = ["fastapi", "celery"]
tasks = Celery("tasks", broker="memory://", backend="cache+memory://")
tasks.conf.task_always_eager = True
app = FastAPI()


@tasks.task
def add(x, y):
    return x + y


@app.get("/")
def root():
    return {"ok": add.delay(40, 2).get(timeout=5, disable_sync_subtasks=False), "name": add.name.rpartition(".")[2]}
