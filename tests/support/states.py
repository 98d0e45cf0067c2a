"""State machines: every change of a state is checked against the table beside the code."""

from collections.abc import Mapping
from typing import Any

from pounce.kernel import task
from pounce.supervisor import slot, supervisor

illegal: list[str] = []
"""Changes that no table lists. `conftest` fails the test that made them."""

MACHINES: list[tuple[type, Mapping[Any, Any]]] = [
    (task.Task, task.TRANSITIONS),
    (slot.Slot, slot.TRANSITIONS),
    (supervisor.Supervisor, supervisor.TRANSITIONS),
]
"""Classes whose attribute `state` is a state machine, and for each state what may follow on it."""


class CheckedState:
    """Takes the place of the attribute, and notes every change that the table does not list."""

    def __init__(self, owner: type, transitions: Mapping[Any, Any]) -> None:
        self._slot = vars(owner).get("state")  # where the class has `__slots__`
        self._transitions = transitions

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        if instance is None:
            return self
        return instance.__dict__["state"] if self._slot is None else self._slot.__get__(instance)

    def __set__(self, instance: Any, state: Any) -> None:
        try:
            before = self.__get__(instance)
        except (KeyError, AttributeError):
            before = state  # the first one
        if state is not before and state not in self._transitions[before]:
            illegal.append(f"{type(instance).__name__}: {before} -> {state}")
        if self._slot is None:
            instance.__dict__["state"] = state
        else:
            self._slot.__set__(instance, state)


def check() -> None:
    """From now on, in this process."""
    for owner, transitions in MACHINES:
        owner.state = CheckedState(owner, transitions)  # type: ignore[attr-defined]
