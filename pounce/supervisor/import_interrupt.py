"""The import of the application, as a signal interrupts it: the handler raises Interrupted in the middle of it.

An exception that a handler raises can be lost. The application may catch it. And Python runs `__del__` and the
callbacks of weak references wherever they fall due, prints what they raise, and goes on; the import system has such
callbacks. So the signal is remembered and raised again at the end of the import, and Interrupted is not printed.

Owner: the main thread.
"""

import contextlib
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from pounce.kernel.task import Interrupted

if TYPE_CHECKING:
    from sys import UnraisableHookArgs


class ImportInterrupt:
    def __init__(self) -> None:
        self.received = False
        self._importing = False

    def signal(self, *, here: bool = True) -> None:
        """A signal has come. Raises Interrupted while the application is imported, if that is `here`, on the thread
        that handles the signal."""
        self.received = True
        if self._importing and here:
            raise Interrupted

    @contextlib.contextmanager
    def importing(self) -> Iterator[None]:
        """The application is imported. Raises Interrupted at a signal, at the latest when the import is done."""
        before = sys.unraisablehook

        def report(lost: "UnraisableHookArgs") -> None:
            if not issubclass(lost.exc_type, Interrupted):
                before(lost)

        sys.unraisablehook = report
        try:
            self._importing = True
            if self.received:
                raise Interrupted
            yield
        finally:
            self._importing = False
            if sys.unraisablehook is report:  # else the application has set one, which may call ours
                sys.unraisablehook = before
        if self.received:
            raise Interrupted
