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
from pounce.asgi.failures import log_failure
from pounce.asgi.foreign import Calls
from pounce.errors import exit_code, first_line
from pounce.kernel.task import Cancelled, Wait
from pounce.kernel.waits import sleep
from pounce.protocols.events import ApplicationError

LAST_WORDS = 0.1
"""Seconds in which an application that has told its failure may end by itself."""

logger = logging.getLogger("pounce.error")


class Lifespan:
    """`startup`, then, when it has succeeded, `shutdown`. Both call back with whether it worked, once.

    mode "auto": an application that raises at once does not speak lifespan, which is fine.
    mode "on": that is an error. mode "off": the application is never asked.
    """

    def __init__(self, mode: str, foreign: Calls) -> None:
        """`foreign` carries out calls from other threads."""
        self._foreign = foreign
        self.state: dict[str, Any] = {}
        self.exited = False
        """Has the application ended its start by sys.exit? Then it has said what there is to say."""
        self.exit_code = 3
        """Of a start that failed."""
        self._mode = mode
        self._told: Callable[[bool], object] | None = None
        self._messages: deque[Message] = deque()
        self._waiting: Wait | None = None
        self.running = False
        """Is there somebody to shut down?"""
        self.unsupported = False
        """Does the application not speak lifespan?"""
        self.given_up = False
        """Is it cancelled because the end is forced? What the application says of that is no news."""
        self.on_trial = False
        """Does somebody act on a start that fails? Then nothing is logged of it, and `reason` says what has failed."""
        self.reason = ""
        self._started = False
        self._failed = False

    def scope(self, asgi_version: str) -> Scope:
        return {"type": "lifespan", "asgi": {"version": asgi_version, "spec_version": "2.0"}, "state": self.state}

    def startup(self, run: Callable[["Lifespan"], object], told: Callable[[bool], object]) -> None:
        """Starts the application's lifespan with `run(self)`, which must drive it with `receive` and `send` and
        call `finished` at its end."""
        if self._mode == "off":
            told(True)
            return
        self._told = told
        self.running = True
        self._messages.append({"type": "lifespan.startup"})
        run(self)

    def shutdown(self, told: Callable[[bool], object]) -> None:
        """Only while it is `running`."""
        self._told = told
        self._messages.append({"type": "lifespan.shutdown"})
        if self._waiting is not None:
            self._waiting.wake()

    def _tell(self, worked: bool) -> None:
        told, self._told = self._told, None
        if told is not None:
            told(worked)

    async def receive(self) -> Message:
        if get_ident() != self._foreign.thread:
            return await self._foreign.pass_on(self.receive, unused=self._messages.appendleft)
        while not self._messages:
            self._waiting = Wait()
            await self._waiting
        return self._messages.popleft()

    async def send(self, message: Message) -> None:
        if get_ident() != self._foreign.thread:
            await self._foreign.pass_on(self.send, message)
            return
        try:
            self._take(message)
        except Exception:
            await sleep(0)  # an application that tries again and again must not keep the loop from its turn
            raise

    def _take(self, message: Message) -> None:
        """Takes the application's word for how its phase has ended. Raises ApplicationError for any other message."""
        kind = message["type"]
        phase = "shutdown" if self._started else "startup"
        if kind not in (f"lifespan.{phase}.complete", f"lifespan.{phase}.failed") or self._failed:
            raise ApplicationError(f"ASGI message {kind!r} cannot be sent now: the application is in its {phase}")
        if kind.endswith(".failed"):
            self._failed = True
            self.reason = message.get("message", "")
            # Mostly it ends now, and its error says whether it has failed or called sys.exit.
            self._foreign.loop.call_later(LAST_WORDS, self._tell_failed)
        else:
            self._started = True
            self._tell(True)

    def _tell_failed(self, error: BaseException | None = None) -> None:
        if self._told is not None and self.reason:
            level = logging.DEBUG if self.given_up or self.on_trial else logging.ERROR
            logger.log(level, self.reason, extra={"raised": error})  # the reason mostly has its traceback in it
        self._tell(False)

    def finished(self, _value: object, error: BaseException | None) -> None:
        """The application's lifespan call has ended."""
        self.running = False
        if isinstance(error, SystemExit) and not self._started:
            self.exited = True
            self.exit_code = exit_code(error)
            self._tell(False)
            return
        if self._failed:
            self._tell_failed(error)
        if error is not None and not self._failed and not issubclass(type(error), Cancelled):
            if not self._started:
                self.reason = f"{type(error).__name__}: {first_line(error)}"
            if self._mode == "auto" and not self._started:
                self.unsupported = True
                self._tell(True)
                return
            if self.on_trial and not self._started:
                self._tell(False)
                return
            log_failure(error, "'lifespan' protocol")
        # One that returns without a word has nothing to set up, or nothing more to clean up.
        self._tell(error is None and not self._failed)
