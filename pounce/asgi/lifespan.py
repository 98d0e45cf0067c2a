"""The lifespan of an application on one worker (ASGI lifespan 2.0): start-up, the state it makes, shutdown.

One lifespan per worker: what the application opens here belongs to the loop that serves its requests.

Owner: the worker's thread.
"""

import logging
from collections import deque
from collections.abc import Callable
from threading import get_ident
from typing import Any

from pounce.app.types import Message, Scope
from pounce.asgi.cross_thread import CrossThreadCalls
from pounce.asgi.failures import log_failure
from pounce.errors import exit_code, first_line
from pounce.kernel.task import Cancelled, Wait
from pounce.kernel.waits import sleep
from pounce.protocols.events import ApplicationError

FAILURE_GRACE = 0.1
"""Seconds in which an application that has reported its failure may end by itself."""

logger = logging.getLogger("pounce.error")


class Lifespan:
    """`startup`, then, when it has succeeded, `shutdown`. Both call back with whether it worked, once.

    mode "auto": an application that raises at once does not speak lifespan, which is fine.
    mode "on": that is an error. mode "off": the application is never asked.
    """

    def __init__(self, mode: str, cross_thread: CrossThreadCalls) -> None:
        """`cross_thread` carries out calls from other threads."""
        self._cross_thread = cross_thread
        self.state: dict[str, Any] = {}
        self.exited = False
        """Has the application ended its start by sys.exit? Then nothing more is logged of it."""
        self.exit_code = 3
        """Of a start that failed."""
        self._mode = mode
        self._on_phase_end: Callable[[bool], object] | None = None
        self._messages: deque[Message] = deque()
        self._waiting: Wait | None = None
        self.running = False
        """Does the application's lifespan run, so that it has to be shut down?"""
        self.unsupported = False
        """Does the application not speak lifespan?"""
        self.aborted = False
        """Is it cancelled because the end is forced? Then what the application reports is logged at debug level."""
        self.probing = False
        """Does the caller act on a start that fails? Then nothing is logged of it, and `reason` says what failed."""
        self.reason = ""
        self._started = False
        self._failed = False

    def scope(self, asgi_version: str) -> Scope:
        return {"type": "lifespan", "asgi": {"version": asgi_version, "spec_version": "2.0"}, "state": self.state}

    def startup(self, run: Callable[["Lifespan"], object], on_end: Callable[[bool], object]) -> None:
        """Starts the application's lifespan with `run(self)`, which must drive it with `receive` and `send` and
        call `finished` at its end."""
        if self._mode == "off":
            on_end(True)
            return
        self._on_phase_end = on_end
        self.running = True
        self._messages.append({"type": "lifespan.startup"})
        run(self)

    def shutdown(self, on_end: Callable[[bool], object]) -> None:
        """Only while it is `running`."""
        self._on_phase_end = on_end
        self._messages.append({"type": "lifespan.shutdown"})
        if self._waiting is not None:
            self._waiting.wake()

    def _report(self, worked: bool) -> None:
        on_end, self._on_phase_end = self._on_phase_end, None
        if on_end is not None:
            on_end(worked)

    async def receive(self) -> Message:
        if get_ident() != self._cross_thread.thread:
            return await self._cross_thread.call(self.receive, on_unused=self._messages.appendleft)
        while not self._messages:
            self._waiting = Wait()
            await self._waiting
        return self._messages.popleft()

    async def send(self, message: Message) -> None:
        if get_ident() != self._cross_thread.thread:
            await self._cross_thread.call(self.send, message)
            return
        try:
            self._handle(message)
        except Exception:
            await sleep(0)  # an application that tries again and again must not keep the loop from its turn
            raise

    def _handle(self, message: Message) -> None:
        """Takes the message that says how the phase has ended. Raises ApplicationError for any other message."""
        kind = message["type"]
        phase = "shutdown" if self._started else "startup"
        if kind not in (f"lifespan.{phase}.complete", f"lifespan.{phase}.failed") or self._failed:
            raise ApplicationError(f"ASGI message {kind!r} cannot be sent now: the application is in its {phase}")
        if kind.endswith(".failed"):
            self._failed = True
            self.reason = message.get("message", "")
            # Mostly it ends now, and its error says whether it has failed or called sys.exit.
            self._cross_thread.loop.call_later(FAILURE_GRACE, self._report_failure)
        else:
            self._started = True
            self._report(True)

    def _report_failure(self, error: BaseException | None = None) -> None:
        if self._on_phase_end is not None and self.reason:
            level = logging.DEBUG if self.aborted or self.probing else logging.ERROR
            logger.log(level, self.reason, extra={"raised": error})  # the reason mostly has its traceback in it
        self._report(False)

    def finished(self, _value: object, error: BaseException | None) -> None:
        """The application's lifespan call has ended."""
        self.running = False
        if isinstance(error, SystemExit) and not self._started:
            self.exited = True
            self.exit_code = exit_code(error)
            self._report(False)
            return
        if self._failed:
            self._report_failure(error)
        if error is not None and not self._failed and not issubclass(type(error), Cancelled):
            if not self._started:
                self.reason = f"{type(error).__name__}: {first_line(error)}"
            if self._mode == "auto" and not self._started:
                self.unsupported = True
                self._report(True)
                return
            if self.probing and not self._started:
                self._report(False)
                return
            log_failure(error, "'lifespan' protocol")
        # An application that returns without a message has nothing to set up, or nothing more to clean up.
        self._report(error is None and not self._failed)
