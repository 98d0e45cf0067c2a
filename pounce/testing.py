"""`TestServer`: a real server on a free port, for tests of applications.

    with TestServer(app) as server:
        assert httpx.get(server.url + "/").status_code == 200

Must never change the program's logging or signal handlers. Owner: the thread of the `with` statement; the server has a
thread of its own.
"""

import contextlib
import logging
import threading
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, Unpack

from pounce.config.config import Config
from pounce.errors import StartupError
from pounce.supervisor.server import Server

if TYPE_CHECKING:
    from pounce.config.keywords import ConfigOptions


class TestServer:
    """A server on a thread of its own, as a context manager.

    `app` is an import string or the application. `options` are the fields of `Config`; by default the server listens at
    a free port of 127.0.0.1, has one worker, no access log, and leaves the configuration of logging as it is.

    Entering waits until the server accepts requests. It raises RuntimeError if the server does not start within
    `timeout` seconds. The cause is the application's exception or the StartupError, if it was raised in this process.
    The constructor raises ConfigError for an invalid option.

    Leaving ends the server in order. Requests that still run have a quarter of `timeout` (or
    `timeout_graceful_shutdown`) to end, and the lifespan's shutdown has as long again.
    """

    __test__ = False  # not a test, whatever pytest thinks of the name

    def __init__(self, app: Any, *, timeout: float = 10.0, **options: "Unpack[ConfigOptions]") -> None:
        defaults: ConfigOptions = {"port": 0, "log_config": None, "access_log": False, "workers": 1}
        defaults["timeout_graceful_shutdown"] = timeout / 4
        given: ConfigOptions = {**defaults, **options}
        self.server = Server(Config(app, **given))
        self._timeout = timeout
        self._thread = threading.Thread(target=self._run, name="pounce-test-server", daemon=True)

    def _run(self) -> None:
        with contextlib.suppress(SystemExit):  # a start that fails shows in `__enter__`
            self.server.run()

    @property
    def host(self) -> str:
        """The address of the first socket, or its path if it is a Unix socket."""
        return self.server.addresses[0][0]

    @property
    def port(self) -> int:
        """The port of the first socket."""
        port = self.server.addresses[0][1]
        assert port is not None, "a Unix socket has no port"
        return port

    @property
    def url(self) -> str:
        """The address of the first socket as a URL, without a slash at the end."""
        return self.server.listeners[0].url

    def __enter__(self) -> Self:
        failure = _Failure()
        log = logging.getLogger("pounce.error")
        log.addFilter(failure)
        try:
            self._thread.start()
            if not self.server.wait_started(self._timeout):
                self.__exit__(None, None, None)
                raise RuntimeError("the server has not started; its log says why") from failure.error
        finally:
            log.removeFilter(failure)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.server.should_exit = True
        # The graceful timeout of the requests, that of the lifespan, and a margin.
        self._thread.join(2 * (self.server.config.timeout_graceful_shutdown or 0) + self._timeout)
        if self._thread.is_alive():
            self.server.force_exit = True
            self._thread.join(self._timeout)


class _Failure(logging.Filter):
    """Passes every record, and keeps the exception of the first error. A filter, because logging prints records that no
    handler takes, and a handler would prevent that."""

    error: BaseException | None = None

    def filter(self, record: logging.LogRecord) -> bool:
        if self.error is None and record.levelno >= logging.ERROR:
            raised = record.exc_info[1] if record.exc_info else getattr(record, "raised", None)
            logged = record.msg if isinstance(record.msg, StartupError) else StartupError(record.getMessage())
            self.error = raised or logged
        return True
