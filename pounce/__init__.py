"""Pounce: an ASGI server for free-threaded Python.

`run` starts a server, as uvicorn.run does; `Server` is for programs that control one. `sleep` and `to_thread` are what
a plain ASGI application may await without asyncio. `per_worker` makes one object for each worker behind one name.

Must never import asyncio. The names in `__all__` are the public interface, with `pounce.testing` and the configuration
of `pounce.logging`.
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
    """Serves `app` until a signal ends the server.

    `app` is an import string `module:attribute`, or the application itself. `options` are the fields of `Config`, among
    them the keywords of uvicorn.run. Returns when the server has ended; Ctrl-C ends it without a traceback. Raises
    ConfigError for an invalid option. If the server cannot start, logs one line and raises SystemExit with uvicorn's
    exit code: 1 if the application's code has raised while it was imported, else 3.
    """
    with contextlib.suppress(KeyboardInterrupt):
        Server(Config(app, **options)).run()
