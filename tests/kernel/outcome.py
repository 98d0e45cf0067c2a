"""How a coroutine ended."""


class Outcome:
    """Keeps how a coroutine ended."""

    def __init__(self):
        self.calls = []

    def __call__(self, value, error):
        self.calls.append((value, error))

    @property
    def value(self):
        ((value, error),) = self.calls
        assert error is None, repr(error)
        return value

    @property
    def error(self):
        ((_, error),) = self.calls
        return error
