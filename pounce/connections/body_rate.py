"""The rate at which the content of a request has to come: any at first, then a least one.

Owner: the worker's thread; immutable.
"""

EXTENSION = 1.0
"""Seconds by which a client that keeps up the least rate is given more time, again and again."""


class BodyRate:
    """A connection has the credit of the bytes that have come. The initial deadline costs nothing; each extension costs
    as many bytes as the least rate brings in its time."""

    def __init__(self, rate: int, initial: float | None) -> None:
        """`rate` in bytes per second, 0 for none; `initial` is the length of the initial deadline in seconds."""
        self._cost = rate * EXTENSION
        self._max_credit = rate * (initial or 0)  # so a fast beginning pays for as long as the initial deadline

    def charge(self, credit: float, *, extension: bool) -> float:
        """The credit that is left, now that the initial deadline or an `extension` has expired; below 0 for too
        little."""
        left = min(credit - (self._cost if extension else 0), self._max_credit)
        return left if left > 0 or not self._cost else -1
