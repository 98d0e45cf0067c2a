"""What goes wrong while something is measured."""


class Unmeasured(Exception):
    """A server cannot be measured; the text says why."""
