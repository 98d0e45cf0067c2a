"""For tests of applications: a real server on a free port, for the time of a `with`.

with TestServer(app) as server:
    assert httpx.get(server.url + "/").status_code == 200
"""

import contextlib
import threading
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, Unpack

from pounce.config import Config
from pounce.supervisor import Server

if TYPE_CHECKING:
    from pounce.keywords import ConfigOptions


class TestServer:
    """A server on a thread of its own, at a free port of 127.0.0.1 unless the options say otherwise.

    `options` are the fields of `Config`; logging is left as it is. Entering raises RuntimeError when the server
    does not start within `timeout` seconds; leaving ends it in order.
    """

    __test__ = False  # not a test, whatever pytest thinks of the name

    def __init__(self, app: Any, *, timeout: float = 10.0, **options: "Unpack[ConfigOptions]") -> None:
        defaults: ConfigOptions = {"port": 0, "log_config": None, "access_log": False, "workers": 1}
        given: ConfigOptions = {**defaults, **options}
        self.server = Server(Config(app, **given))
        self._timeout = timeout
        self._thread = threading.Thread(target=self._run, name="pounce-test-server", daemon=True)

    def _run(self) -> None:
        with contextlib.suppress(SystemExit):  # a start that fails shows in `__enter__`
            self.server.run()

    @property
    def host(self) -> str:
        return self.server.addresses[0][0]

    @property
    def port(self) -> int:
        port = self.server.addresses[0][1]
        assert port is not None, "a Unix socket has no port"
        return port

    @property
    def url(self) -> str:
        """The address as a URL, without a slash at the end."""
        return self.server.listeners[0].url

    def __enter__(self) -> Self:
        self._thread.start()
        if not self.server.wait_started(self._timeout):
            self.__exit__(None, None, None)
            raise RuntimeError("the server has not started; its log says why")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.server.should_exit = True
        self._thread.join(self._timeout)
        if self._thread.is_alive():
            self.server.force_exit = True
            self._thread.join(self._timeout)
