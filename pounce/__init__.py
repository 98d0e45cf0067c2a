"""Pounce: an ASGI server for free-threaded Python.

`run` starts it as uvicorn.run does; `Server` is for programs that want to hold it in the hand. `sleep` and
`to_thread` are what a plain ASGI application may wait for without asyncio. `per_worker` makes one object for each
worker behind one name.
"""

import contextlib
from typing import TYPE_CHECKING, Any, Unpack

from pounce.app.per_worker import per_worker
from pounce.config.config import Config
from pounce.errors import ClientDisconnected, ConfigError, StartupError
from pounce.kernel.waits import sleep, to_thread
from pounce.supervisor.server import Server
from pounce.version import __version__

if TYPE_CHECKING:
    from pounce.config.keywords import ConfigOptions

__all__ = [
    "ClientDisconnected",
    "Config",
    "ConfigError",
    "Server",
    "StartupError",
    "__version__",
    "per_worker",
    "run",
    "sleep",
    "to_thread",
]


def run(app: Any, **options: "Unpack[ConfigOptions]") -> None:
    """Serves `app`, an import string or the application itself, until a signal ends it.

    `options` are the fields of `Config`; uvicorn.run's keywords are among them. Raises ConfigError for an invalid
    value, and SystemExit with 3 when the server cannot start. Ctrl-C ends it without a traceback.
    """
    with contextlib.suppress(KeyboardInterrupt):
        Server(Config(app, **options)).run()
