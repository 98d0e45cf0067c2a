"""State machines: every change of a state is checked against the table beside the code."""

from typing import Any

from pounce.supervisor import slot, supervisor

illegal: list[str] = []
"""Changes that no table lists. The rig fails the test that made them."""


class CheckedState:
    """Takes the place of an attribute of a class, and notes every change that the table does not list."""

    def __init__(self, transitions: dict[Any, set[Any]]) -> None:
        self._transitions = transitions

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return instance.__dict__[self._name] if instance is not None else self

    def __set__(self, instance: Any, state: Any) -> None:
        before = instance.__dict__.get(self._name, state)
        if state is not before and state not in self._transitions[before]:
            illegal.append(f"{type(instance).__name__}: {before} -> {state}")
        instance.__dict__[self._name] = state


def check_states() -> None:
    for owner, transitions in ((slot.Slot, slot.TRANSITIONS), (supervisor.Supervisor, supervisor.TRANSITIONS)):
        checked = CheckedState(transitions)
        checked.__set_name__(owner, "state")
        owner.state = checked  # type: ignore[assignment,attr-defined]
