"""A function in a process of its own: neither its CPU time nor its crash is the scenario's."""

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Callable
from typing import Any, Self

from stress.kit.errors import Unmeasured
from stress.kit.machine import raise_descriptor_limit, set_session_priority


class ChildProcess:
    """Runs `function(*arguments)` in a process that is spawned, not forked. The value is sent back by a pipe."""

    def __init__(self, function: Callable[..., Any], *arguments: Any, nice: int = 0) -> None:
        context = multiprocessing.get_context("spawn")
        self._name = function.__name__
        self._pipe, child_pipe = context.Pipe()
        self._process = context.Process(target=_call, args=(child_pipe, function, arguments, nice), daemon=True)
        self._process.start()
        child_pipe.close()

    def result(self, timeout: float) -> Any:
        """The function's value. Raises Unmeasured with the function's error, or after `timeout` seconds."""
        try:
            if not self._pipe.poll(timeout):
                raise Unmeasured(f"{self._name} has not ended within {timeout:.0f} s")
            worked, value = self._pipe.recv()
        except EOFError:
            raise Unmeasured(f"{self._name} died") from None
        finally:
            self.end()
        if not worked:
            raise Unmeasured(value)
        return value

    def end(self) -> None:
        if self._pipe.closed:
            return
        self._process.join(0.5)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._pipe.close()
        self._process.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()


def _call(pipe: Any, function: Callable[..., Any], arguments: tuple[Any, ...], nice: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if nice:
        os.setsid()
        with contextlib.suppress(OSError):  # only root may go below 0
            os.nice(nice)
        set_session_priority(os.getpid(), nice)
    raise_descriptor_limit()
    try:
        pipe.send((True, function(*arguments)))
    except BaseException as error:
        pipe.send((False, f"{function.__name__}: {type(error).__name__}: {error}"))
