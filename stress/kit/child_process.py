"""A function in a process of its own: neither its CPU time nor its crash is the scenario's."""

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Callable
from typing import Any, Self

from stress.kit.errors import Unmeasured
from stress.kit.machine import raise_descriptor_limit, set_session_priority


class Apart:
    """`function(*arguments)` in a process of its own, started afresh: neither its CPU time nor its crash is ours."""

    def __init__(self, function: Callable[..., Any], *arguments: Any, nice: int = 0) -> None:
        context = multiprocessing.get_context("spawn")
        self._what = function.__name__
        self._ours, theirs = context.Pipe()
        self._process = context.Process(target=_apart, args=(theirs, function, arguments, nice), daemon=True)
        self._process.start()
        theirs.close()

    def result(self, patience: float) -> Any:
        """What it returns. Raises Unmeasured with what it raises, or when it takes longer than `patience` seconds."""
        try:
            if not self._ours.poll(patience):
                raise Unmeasured(f"{self._what} has not ended within {patience:.0f} s")
            worked, value = self._ours.recv()
        except EOFError:
            raise Unmeasured(f"{self._what} died") from None
        finally:
            self.end()
        if not worked:
            raise Unmeasured(value)
        return value

    def end(self) -> None:
        if self._ours.closed:
            return
        self._process.join(0.5)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._ours.close()
        self._process.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()


def _apart(pipe: Any, function: Callable[..., Any], arguments: tuple[Any, ...], nice: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if nice:
        os.setsid()
        with contextlib.suppress(OSError):  # below 0 is root's
            os.nice(nice)
        set_session_priority(os.getpid(), nice)
    raise_descriptor_limit()
    try:
        pipe.send((True, function(*arguments)))
    except BaseException as error:
        pipe.send((False, f"{function.__name__}: {type(error).__name__}: {error}"))
