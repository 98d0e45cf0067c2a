"""The restart of the application: SIGHUP. The configuration is read again, the application is loaded anew, and the
workers are replaced while the server serves.

What the operator has mistaken, or the application, leaves everything as it was.

Owner: the supervisor's thread.
"""

import dataclasses
import logging
from collections.abc import Callable, Sequence

from pounce.app.generations import CannotReload
from pounce.app.loading import log_failure_to_load
from pounce.config.config import DEFAULTS, OPTIONS, Config
from pounce.errors import StartupError
from pounce.logging import configure
from pounce.supervisor import systemd
from pounce.supervisor.folder import CurrentFolder
from pounce.supervisor.generation import Generation
from pounce.supervisor.plan import Plan
from pounce.supervisor.renewal import Failure, Renewal, RenewalState

FIXED = ("host", "port", "uds", "fd", "bind", "backlog", "workers", "worker_kind", "reload", "timeout_worker_stuck",
         "admin", "admin_public", "pid_file", "user", "group", "umask")  # fmt: skip
"""Options that hold for the server as a whole, from its start to its end."""
LOGGING = ("log_level", "log_config", "log_format", "access_log", "use_colors", "request_id")

type Reconfigure = Callable[[], tuple[Config, Sequence[tuple[int, str]]]]
"""Reads the configuration again, and gives lines for the log. Raises StartupError."""

logger = logging.getLogger("pounce.error")


class Restart:
    def __init__(
        self, config: Config, plan: Plan, renewal: Renewal, reconfigure: Reconfigure | None,
        on_config: Callable[[Config], object],
    ) -> None:  # fmt: skip
        """`reconfigure`: None where the configuration was made by a program, so that it stays. `on_config` is called
        with the configuration of a generation that serves."""
        self._on_config = on_config
        self.config = config
        """Of the generation that serves."""
        self._plan = plan
        self._renewal = renewal
        self._reconfigure = reconfigure
        self._folder = CurrentFolder()
        self._again = False  # has SIGHUP arrived during a restart?

    def begin(self) -> None:
        """SIGHUP."""
        if self._renewal.state is RenewalState.LOADING:
            self._again = True
            logger.info("SIGHUP: the workers are replaced once more when the application has been loaded.")
            return
        systemd.reloading()
        try:
            config = self._read()
        except StartupError as error:
            logger.error("SIGHUP is ignored, the workers stay: %s", error)
            systemd.ready()
            return
        if why := self._plan.roll_obstacle(config):
            logger.warning("SIGHUP is ignored: %s. SIGUSR2 starts a new server process in its place.", why)
            systemd.ready()
            return
        logger.info("SIGHUP: replacing the workers, which load the application anew.")
        self._renewal.begin(config, self._ended)

    def _read(self) -> Config:
        """The configuration as it is now; a fixed option keeps its value, which a line says."""
        if self._reconfigure is None:
            return self.config
        if not self._folder.return_to():
            raise StartupError(f"the current folder {self._folder.path} is gone")
        found, notes = self._reconfigure()
        for level, note in notes:
            logger.log(level, note)
        for name in FIXED:
            before, now = getattr(self.config, name), getattr(found, name)
            if before != now:
                logger.warning(
                    "%s cannot change while the server runs: it stays %s, not %s.",
                    OPTIONS[name].flags[-1], _shown(name, before), _shown(name, now),
                )  # fmt: skip
        kept = {name: getattr(self.config, name) for name in FIXED}
        config = dataclasses.replace(found, threads=None, **kept)
        has_file = isinstance(config.log_config, str) and config.log_config != DEFAULTS["log_config"]
        if has_file or any(getattr(self.config, name) != getattr(config, name) for name in LOGGING):
            self._configure_logging(config)
        return config

    def _configure_logging(self, config: Config) -> None:
        try:
            configure(config)  # even where only the file has changed: it opens the log's files again
        except StartupError:
            configure(self.config)
            raise

    def _ended(self, generation: Generation | None, failure: Failure | None) -> None:
        if failure is None:
            assert generation is not None
            self.config = generation.config
            self._on_config(self.config)
        elif isinstance(failure, StartupError | SystemExit):
            log_failure_to_load(failure)
            logger.error("The application is not replaced: it cannot be loaded. The workers stay.")
        elif isinstance(failure, CannotReload):
            logger.error(
                "The application is not replaced: %s. SIGUSR2 starts a new server process in its place.", failure
            )
        elif isinstance(failure, BaseException):
            logger.critical("Loading the application has failed. The workers stay.", exc_info=failure)
        systemd.ready()
        if self._again:
            self._again = False
            self.begin()


def _shown(name: str, value: object) -> str:
    """The value of an option, for an operator."""
    if name == "umask" and isinstance(value, int):
        return f"{value:03o}"
    if isinstance(value, bool):
        return "on" if value else "off"
    if value is None:
        return "the default"
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
