"""What every way of watching has in common. Owner: the loop's thread."""

from collections.abc import Callable
from typing import Protocol

type Changed = Callable[[set[str]], object]
"""Called with the real paths of files that have changed, which may be none."""
type Failed = Callable[[str], object]
"""Called when this way of watching has come to its end, with the reason for the operator."""


class Source(Protocol):
    how: str

    def catch_up(self) -> None:
        """Called when something has changed, before it is passed on: reports what has changed with it."""

    def close(self) -> None: ...
