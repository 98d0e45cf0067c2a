"""State machines: every change of a state is checked against the table beside the code."""

import inspect
from collections.abc import Mapping
from typing import Any

from pounce.asgi import exchange, stages
from pounce.connections import http1, http1_state, proxy_opening, websocket
from pounce.kernel import task
from pounce.net import stream
from pounce.supervisor import reload, renewal, slot, supervisor
from pounce.worker import control, worker

illegal: list[str] = []
"""Changes that no table lists. `conftest` fails the test that made them."""

MACHINES: list[tuple[type, str, Mapping[Any, Any]]] = [
    (task.Task, "state", task.TRANSITIONS),
    (stream.SocketStream, "state", stream.TRANSITIONS),
    (http1.HTTP1Connection, "state", http1_state.TRANSITIONS),
    (proxy_opening.Opening, "state", proxy_opening.TRANSITIONS),
    (websocket.WebSocketConnection, "_state", websocket.TRANSITIONS),
    (exchange.Exchange, "stage", stages.TRANSITIONS),
    (worker.Worker, "state", control.TRANSITIONS),
    (slot.Slot, "state", slot.TRANSITIONS),
    (supervisor.Supervisor, "state", supervisor.TRANSITIONS),
    (renewal.Renewal, "state", renewal.TRANSITIONS),
    (reload.Reload, "state", reload.TRANSITIONS),
]
"""Classes, the attribute that holds their state, and for each state what may follow on it."""


class CheckedState:
    """Takes the place of the attribute, and notes every change that the table does not list."""

    def __init__(self, owner: type, name: str, transitions: Mapping[Any, Any]) -> None:
        before = inspect.getattr_static(owner, name, None)
        self._slot = before if inspect.isdatadescriptor(before) else None  # where the class has `__slots__`
        self._first = None if self._slot else before  # where the first state is an attribute of the class
        self._name = name
        self._transitions = transitions

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        if instance is None:
            return self
        if self._slot is not None:
            return self._slot.__get__(instance)
        if self._first is not None:
            return instance.__dict__.get(self._name, self._first)
        return instance.__dict__[self._name]

    def __set__(self, instance: Any, state: Any) -> None:
        try:
            before = self.__get__(instance)
        except (KeyError, AttributeError):
            before = state  # the first one
        if state is not before and state not in self._transitions[before]:
            illegal.append(f"{type(instance).__name__}: {before} -> {state}")
        if self._slot is None:
            instance.__dict__[self._name] = state
        else:
            self._slot.__set__(instance, state)


def check() -> None:
    """From now on, in this process."""
    for owner, name, transitions in MACHINES:
        setattr(owner, name, CheckedState(owner, name, transitions))
