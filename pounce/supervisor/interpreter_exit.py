"""The exit of a process of the server: the interpreter's own steps, each with a bound.

    threads     `threading` tells executors to stop, and waits for every thread that is not a daemon
    atexit      the functions registered with `atexit` run: Sentry, OpenTelemetry and coverage flush there
    streams     what is buffered for stdout and stderr is written

The interpreter has no bound for the first two: one helper thread that never ends keeps the process for ever. Here such
threads are named and abandoned, and the functions of `atexit` still run.

A caller does these steps with `end_interpreter`. If that has abandoned a thread, the caller must go on with `exit_now`,
because the interpreter's own exit would wait for the same thread.

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

THREAD_GRACE = 1.0
"""Seconds that threads have at least, however much of the graceful timeout remains."""
FORCED_GRACE = 0.5
"""The same for a forced exit: idle threads need milliseconds."""
ATEXIT_TIMEOUT = 10.0
"""Seconds that the functions of `atexit` have at least."""
MAX_NAMES = 5
"""Threads that are named in one line."""

_EXECUTORS = (("concurrent.futures.thread", "_threads_queues"), ("concurrent.futures.process", "_threads_wakeups"))
"""Where `concurrent.futures` keeps the threads that it joins at the interpreter's end."""

logger = logging.getLogger("pounce.error")


def end_interpreter(
    code: int, remaining: float | None, total: float | None, *, forced: bool = False, force_by: int = signal.SIGINT
) -> bool:
    """Takes the steps. Threads have `remaining` seconds, the functions of `atexit` have `total`, each with a minimum;
    None: no limit. The process exits with `code` where those functions do not return in time. The signal `force_by`
    interrupts what waits.

    False if threads were abandoned: call `exit_now` next."""
    if forced:
        remaining = total = 0.0
    force = _ForceSignal()
    if threading.current_thread() is threading.main_thread():
        signal.signal(force_by, force)
    least = FORCED_GRACE if forced else THREAD_GRACE
    abandoned = _end_threads(None if remaining is None else max(least, remaining), force)
    if abandoned:
        rest = len(abandoned) - MAX_NAMES
        names = ", ".join(abandoned[:MAX_NAMES]) + (f" and {rest} more" if rest > 0 else "")
        many = len(abandoned) > 1
        logger.error("Thread%s %s do%s not end; %s abandoned.",
                     "s" if many else "", names, "" if many else "es", "they are" if many else "it is")  # fmt: skip
    returned = threading.Event()
    if total is not None:
        timeout = max(ATEXIT_TIMEOUT, total)
        arguments = (returned, timeout, code)
        threading.Thread(target=_enforce_atexit_timeout, args=arguments, name="pounce-end", daemon=True).start()
    with contextlib.suppress(BaseException):  # it has printed what they have raised
        force.set_interrupting(True)
        atexit._run_exitfuncs()
    force.set_interrupting(False)
    returned.set()
    _flush()
    return not abandoned


def interrupted() -> bool:
    """Has Ctrl-C arrived during `end_interpreter`?"""
    handler = signal.getsignal(signal.SIGINT)
    return isinstance(handler, _ForceSignal) and handler.received


def reset_signals_in_children() -> None:
    """From now on SIGTERM ends processes that the application forks, as `multiprocessing` expects. They would inherit
    the server's handler, whose loop does not run in them."""
    global _resets_children
    if not _resets_children:
        _resets_children = True
        os.register_at_fork(after_in_child=_reset_signals)


_resets_children = False


def _reset_signals() -> None:
    """In a child that has just been forked, on the thread that is its main thread now."""
    handler = signal.getsignal(signal.SIGTERM)
    if str(getattr(handler, "__module__", "")).startswith("pounce."):
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def exit_now(code: int) -> NoReturn:
    """Exits at once, whatever threads are left. Call `end_interpreter` before."""
    with contextlib.suppress(BaseException):
        logging.shutdown()
    _flush()
    os._exit(code)


def has_terminal() -> bool:
    """Does the process have a terminal, and is that still open?"""
    try:
        os.close(os.open(os.ctermid(), os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True


class _ForceSignal:
    """The handler of the signal that forces the exit. It interrupts only what waits."""

    def __init__(self) -> None:
        self.received = False
        self._waiting = False

    def __call__(self, _number: int, _frame: object) -> None:
        self.received = True
        if self._waiting:
            raise KeyboardInterrupt

    def set_interrupting(self, interrupting: bool) -> None:
        """From now on it interrupts whatever runs on the main thread, or nothing."""
        self._waiting = interrupting

    def join(self, thread: threading.Thread, timeout: float | None) -> None:
        """Waits for the thread, at most `timeout` seconds, or until the signal arrives."""
        with contextlib.suppress(KeyboardInterrupt):
            self._waiting = True
            if not self.received:
                thread.join(timeout)
        self._waiting = False


def _end_threads(timeout: float | None, force: _ForceSignal) -> list[str]:
    """Tells executors to stop, and waits for threads. Gives the names of those that have not ended."""
    waiter = threading.Thread(target=_wait_for_threads, name="pounce-threads", daemon=True)
    waiter.start()
    force.join(waiter, THREAD_GRACE if timeout is None else min(timeout, THREAD_GRACE))
    if waiter.is_alive() and not force.received and (timeout is None or timeout > THREAD_GRACE):
        logger.info("Waiting for threads to end: %s. (CTRL+C to force quit)", ", ".join(_waiting_threads()[:MAX_NAMES]))
        force.join(waiter, None if timeout is None else timeout - THREAD_GRACE)
    return _waiting_threads() if waiter.is_alive() else []


def _wait_for_threads() -> None:
    with contextlib.suppress(BaseException):
        threading._shutdown()  # type: ignore[attr-defined]  # as the interpreter and the children of multiprocessing do


def _waiting_threads() -> list[str]:
    """The threads that the interpreter's exit waits for: those that are not daemons, and those of executors."""
    waited = {thread for thread in threading.enumerate() if not thread.daemon}
    for module, name in _EXECUTORS:
        waited.update(list(getattr(sys.modules.get(module), name, ())))
    waited.discard(threading.main_thread())
    # asyncio tells an executor to stop from a thread of its own, whose name means nothing to an operator.
    return sorted(thread.name for thread in waited if thread.is_alive() and "(_do_shutdown)" not in thread.name)


def _enforce_atexit_timeout(returned: threading.Event, timeout: float, code: int) -> None:
    if not returned.wait(timeout):
        with contextlib.suppress(BaseException):
            logger.error("Functions of atexit have not returned within %g seconds; they are abandoned.", timeout)
        _flush()
        os._exit(code)


def _flush() -> None:
    """Writes what is buffered. Where the other end is closed, the interpreter must not try again: it would print a
    traceback and exit with 120."""
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
        except Exception:  # the application has put an object of its own there
            continue
