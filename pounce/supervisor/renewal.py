"""The renewal: a new generation in the place of the one that serves. It is loaded, and then the pool rolls to it.

Threads share modules that are imported in this process, which takes as long as the application likes. So it happens on
a thread of its own, and the supervisor goes on handling signals.

    IDLE      no renewal is under way
    LOADING   the application is imported
    ROLLING   the pool replaces the workers

Owner: the supervisor's thread.
"""

import contextlib
import enum
import threading
from collections.abc import Callable

from pounce.config.config import Config
from pounce.kernel.loop import Loop
from pounce.supervisor.generation import Generation
from pounce.supervisor.plan import Plan


class RenewalState(enum.Enum):
    IDLE = "idle"
    LOADING = "loading"
    ROLLING = "rolling"


TRANSITIONS = {
    RenewalState.IDLE: {RenewalState.LOADING, RenewalState.ROLLING},
    RenewalState.LOADING: {RenewalState.ROLLING, RenewalState.IDLE},
    RenewalState.ROLLING: {RenewalState.IDLE, RenewalState.LOADING},
}
"""What may follow on each state."""

type Failure = BaseException | str
"""Why there is no new generation: the application's error, CannotReload, or a text of the pool's."""
type OnEnd = Callable[[Generation | None, Failure | None], object]
"""Called with the generation, which is None where it could not be loaded, and the failure; None: it serves."""


class Renewal:
    def __init__(self, loop: Loop, plan: Plan, roll: Callable[[Generation], object]) -> None:
        """`roll` has the pool replace its workers; `roll_ended` must be called at the end of that."""
        self._loop = loop
        self._plan = plan
        self._roll = roll
        self._on_end: OnEnd
        self._generation: Generation | None = None
        """What the pool rolls to."""
        self.state = RenewalState.IDLE

    def begin(self, config: Config, on_end: OnEnd) -> None:
        """Not while loading. A generation that the pool is rolling to is given up, and its `on_end` is not called."""
        self._on_end = on_end
        self._generation = None
        if self._plan.processes:  # each loads the application itself
            self._loaded(self._plan.next_generation(config), None)
            return
        self.state = RenewalState.LOADING
        threading.Thread(target=self._load, args=(config,), name="pounce-loader", daemon=True).start()

    def _load(self, config: Config) -> None:
        """On a thread of its own."""
        threading.current_thread()._daemonic = False  # type: ignore[attr-defined]  # as `ThreadWorker`, for its threads
        generation: Generation | None = None
        failure: Failure | None = None
        try:
            generation = self._plan.next_generation(config)
        except BaseException as error:  # even a defect of the server's own: it goes on with what it has
            failure = error
        with contextlib.suppress(RuntimeError):  # the supervisor has ended
            self._loop.post(lambda: self._loaded(generation, failure))

    def _loaded(self, generation: Generation | None, failure: Failure | None) -> None:
        if generation is None:
            self._end(None, failure)
            return
        self._generation = generation
        if self.state is not RenewalState.ROLLING:
            self.state = RenewalState.ROLLING
        self._roll(generation)

    def roll_ended(self, generation: Generation, failure: str) -> None:
        """From the pool."""
        if generation is self._generation:
            self._generation = None
            self._end(generation, failure or None)

    def _end(self, generation: Generation | None, failure: Failure | None) -> None:
        self.state = RenewalState.IDLE
        self._on_end(generation, failure)
