"""How a process of the server ends: as an interpreter does, but with a bound for each step.

    threads     `threading` tells executors that it is over, and waits for every thread that is no daemon
    atexit      the functions registered with `atexit` run: Sentry, OpenTelemetry and coverage flush there
    streams     what is buffered for stdout and stderr is written

An interpreter waits in the first two for as long as the application likes: one helper thread that never ends keeps the
process for ever. Here such threads are named and left behind, and the functions of `atexit` run all the same.

Owner: the main thread of the process, when its server or worker has ended.
"""

import atexit
import contextlib
import logging
import os
import signal
import sys
import threading
from typing import NoReturn

THREADS = 1.0
"""Seconds that threads have to end, at the least: however much of the graceful time-out is left."""
FORCED = 0.5
"""The same for an end that is forced: idle threads need milliseconds."""
EXIT_FUNCTIONS = 10.0
"""Seconds that the functions of `atexit` have, at the least."""
MOST_NAMES = 5
"""Threads that are named in one line."""

_EXECUTORS = (("concurrent.futures.thread", "_threads_queues"), ("concurrent.futures.process", "_threads_wakeups"))
"""Where `concurrent.futures` keeps the threads that it joins at the interpreter's end."""

logger = logging.getLogger("pounce.error")


def end_interpreter(code: int, left: float | None, whole: float | None, *, forced: bool = False) -> bool:
    """Does what an interpreter does at its end. Threads have `left` seconds, the functions of `atexit` have `whole`,
    each with a least; None is for ever. The process ends with `code` where those functions never return.

    False if threads were left behind: the interpreter's own end would wait for them, so call `leave` next."""
    if forced:
        left = whole = 0.0
    hurry = _Hurry()
    if threading.current_thread() is threading.main_thread():
        signal.signal(hurry.number, hurry)
    stuck = _end_threads(None if left is None else max(FORCED if forced else THREADS, left), hurry)
    if stuck:
        names = ", ".join(stuck[:MOST_NAMES]) + (f" and {rest} more" if (rest := len(stuck) - MOST_NAMES) > 0 else "")
        many = len(stuck) > 1
        logger.error("Thread%s %s do%s not end; leaving %s behind.",
                     "s" if many else "", names, "" if many else "es", "them" if many else "it")  # fmt: skip
    over = threading.Event()
    if whole is not None:
        bound = max(EXIT_FUNCTIONS, whole)
        threading.Thread(target=_guard, args=(over, bound, code), name="pounce-end", daemon=True).start()
    with contextlib.suppress(BaseException):  # it has printed what they have raised
        hurry.interrupts(True)
        atexit._run_exitfuncs()
    hurry.interrupts(False)
    over.set()
    _flush()
    return not stuck


def let_children_end() -> None:
    """From now on processes that the application forks end by SIGTERM, as children of `multiprocessing` are told to.
    They would inherit the server's handler, and never see it called."""
    global _lets_children_end
    if not _lets_children_end:
        _lets_children_end = True
        os.register_at_fork(after_in_child=_forget_signals)


_lets_children_end = False


def _forget_signals() -> None:
    """In a child that has just been forked, on the thread that is its main thread now."""
    handler = signal.getsignal(signal.SIGTERM)
    if str(getattr(handler, "__module__", "")).startswith("pounce."):
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def leave(code: int) -> NoReturn:
    """Ends the process at once, whatever threads it still has. What `end_interpreter` does has been done."""
    with contextlib.suppress(BaseException):
        logging.shutdown()
    _flush()
    os._exit(code)


def has_terminal() -> bool:
    """Does the process belong to a terminal, and is that still there?"""
    try:
        os.close(os.open(os.ctermid(), os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True


class _Hurry:
    """The handler of the signal that forces an end. It interrupts what waits, and nothing else."""

    def __init__(self) -> None:
        child = signal.getsignal(signal.SIGINT) is signal.SIG_IGN  # where the supervisor decides, and says SIGTERM
        self.number = signal.SIGTERM if child else signal.SIGINT
        self.begun = False
        self._waiting = False

    def __call__(self, _number: int, _frame: object) -> None:
        self.begun = True
        if self._waiting:
            raise KeyboardInterrupt

    def interrupts(self, whatever: bool) -> None:
        """From now on it interrupts whatever runs, or nothing."""
        self._waiting = whatever

    def wait(self, thread: threading.Thread, patience: float | None) -> None:
        with contextlib.suppress(KeyboardInterrupt):
            self._waiting = True
            if not self.begun:
                thread.join(patience)
        self._waiting = False


def _end_threads(patience: float | None, hurry: _Hurry) -> list[str]:
    """Tells threads to end, and waits for them. The names of those that did not."""
    waiter = threading.Thread(target=_wait_for_threads, name="pounce-threads", daemon=True)
    waiter.start()
    hurry.wait(waiter, THREADS if patience is None else min(patience, THREADS))
    if waiter.is_alive() and not hurry.begun and (patience is None or patience > THREADS):
        logger.info("Waiting for threads to end: %s. (CTRL+C to force quit)", ", ".join(_left()[:MOST_NAMES]))
        hurry.wait(waiter, None if patience is None else patience - THREADS)
    return _left() if waiter.is_alive() else []


def _wait_for_threads() -> None:
    with contextlib.suppress(BaseException):
        threading._shutdown()  # type: ignore[attr-defined]  # as the interpreter and the children of multiprocessing do


def _left() -> list[str]:
    """The threads that an interpreter's end waits for: those that are no daemon, and those of executors."""
    waited = {thread for thread in threading.enumerate() if not thread.daemon}
    for module, name in _EXECUTORS:
        waited.update(list(getattr(sys.modules.get(module), name, ())))
    waited.discard(threading.main_thread())
    # asyncio's executors are told to end by a thread of their own, which says nothing to anybody.
    return sorted(thread.name for thread in waited if thread.is_alive() and "(_do_shutdown)" not in thread.name)


def _guard(over: threading.Event, bound: float, code: int) -> None:
    if not over.wait(bound):
        with contextlib.suppress(BaseException):
            logger.error("Functions of atexit have not returned within %g seconds; leaving them behind.", bound)
        _flush()
        os._exit(code)


def _flush() -> None:
    """Writes what is buffered. Where nobody reads it any more, the interpreter is not to try again: it would say so in
    a traceback, and end with 120."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except ValueError:  # closed
            continue
        except OSError:
            with contextlib.suppress(Exception):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, stream.fileno())
                os.close(nowhere)
        except Exception:  # an object of the application's
            continue
