"""The error of a server that cannot be measured."""


class Unmeasured(Exception):
    """A server cannot be measured: it does not start, or does not answer as it must. The text says why."""
