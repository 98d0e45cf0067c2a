"""Loading: imports the application and makes it callable with (scope, receive, send).

Must never change the words of uvicorn's errors: operators search for them. Owner: the thread that loads, which is the
supervisor's, or the main thread of a worker process.
"""

import importlib
import inspect
import logging
import os
import sys
from collections.abc import Callable
from types import CoroutineType, TracebackType
from typing import Any

from pounce.app.types import Application, Receive, Scope, Send
from pounce.config import env_file
from pounce.config.config import Config
from pounce.errors import StartupError, exit_code, no_descriptors
from pounce.logging import TRACE

logger = logging.getLogger("pounce.error")


class Loaded:
    """The application, and the version of ASGI it is written for."""

    __slots__ = ("application", "asgi_version", "name")

    def __init__(self, application: Application, asgi_version: str, name: str) -> None:
        self.application = application
        self.asgi_version = asgi_version
        self.name = name
        """For the log and error texts: the import string, or the name of the object."""


def load(config: Config) -> Loaded:
    """Imports the application and prepares it. Raises StartupError. Its cause, if it has one, is the exception of the
    application's code, with the application's frames only."""
    if config.env_file is not None:
        env_file.load(config.env_file)
        logger.info("Loading environment from '%s'", config.env_file)
    app = config.app
    if isinstance(app, str):
        if config.app_dir not in sys.path:
            sys.path.insert(0, config.app_dir)
        app = _import(app)
    app = _instantiated(app, factory=config.factory)
    interface = config.interface if config.interface != "auto" else _interface(app)
    name = config.app if isinstance(config.app, str) else getattr(app, "__qualname__", type(app).__qualname__)
    application = _asgi3(app) if interface == "asgi2" else app
    if logger.isEnabledFor(TRACE):
        from pounce.app.message_log import logged

        application = logged(application)
    return Loaded(application, "2.0" if interface == "asgi2" else "3.0", name)


def log_failure_to_load(error: StartupError | SystemExit) -> int:
    """Logs why there is no application, and returns the exit code."""
    if isinstance(error, SystemExit):
        return exit_code(error)
    logger.error(error, exc_info=error.__cause__)
    return error.exit_code


class ApplicationFailed(StartupError):
    """The application's code has raised while it was imported or instantiated. Its exception is the cause."""

    exit_code = 1


class AttributeErrorInside(Exception):
    """Carries an AttributeError of a module's code through an attribute's lookup, where it would mean that there is no
    such attribute."""

    def __init__(self, error: AttributeError) -> None:
        super().__init__(str(error))
        self.error = error


def without_server_frames(error: BaseException) -> BaseException:
    """The exception with a traceback that leaves out the frames of the server and of the import system."""
    entries = _application_entries(error.__traceback__)
    while isinstance(error, AttributeErrorInside):
        error = error.error
        entries += _application_entries(error.__traceback__)
    kept: TracebackType | None = None
    for entry in reversed(entries):
        kept = TracebackType(kept, entry.tb_frame, entry.tb_lasti, entry.tb_lineno)
    return error.with_traceback(kept)  # None where a file is no Python: the error names file and line


def _application_entries(entry: TracebackType | None) -> list[TracebackType]:
    entries = []
    while entry is not None:
        name = entry.tb_frame.f_code.co_filename
        if not name.startswith(("<frozen importlib", _SERVER_PATH)) and name != importlib.__file__:
            entries.append(entry)
        entry = entry.tb_next
    return entries


_SERVER_PATH = os.path.dirname(os.path.dirname(__file__)) + os.sep


def _import(text: str) -> Any:
    module_name, _, attributes = text.partition(":")
    if not module_name or not attributes:
        raise StartupError(f'Error loading ASGI app. Import string "{text}" must be in format "<module>:<attribute>".')
    if module_name.startswith("."):
        raise StartupError(f'Error loading ASGI app. Could not import module "{module_name}": it is relative.')
    try:
        found: Any = importlib.import_module(module_name)
    except Exception as error:
        if (problem := no_descriptors(error)) is not None:
            raise problem from None
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if missing and (module_name == missing or module_name.startswith(missing + ".")):
            raise StartupError(f'Error loading ASGI app. Could not import module "{module_name}".') from None
        raise ApplicationFailed(
            f'Error loading ASGI app. Importing "{module_name}" has failed:'
        ) from without_server_frames(error)
    for attribute in attributes.split("."):
        try:
            found = getattr(found, attribute)
        except AttributeError:
            raise StartupError(
                f'Error loading ASGI app. Attribute "{attributes}" not found in module "{module_name}".'
            ) from None
    return found


def _instantiated(app: Any, *, factory: bool) -> Any:
    """The application, which is the result of calling `app` if that is a factory."""
    if factory:
        if not callable(app) or not _callable_with(app, 0):
            raise StartupError("Error loading ASGI app factory: it must be callable without arguments.")
        return _call_factory(app)
    if not callable(app):
        raise StartupError(f"Error loading ASGI app. It is {type(app).__name__}, which cannot be called.")
    if inspect.iscoroutinefunction(app) and _callable_with(app, 0) and not _callable_with(app, 3):
        raise StartupError("Error loading ASGI app. It takes no arguments, where an application takes (scope, receive, "
                           "send); and a factory cannot be async.")  # fmt: skip
    # An application takes at least its scope. A callable without required arguments is a factory.
    if _callable_with(app, 0) and not _is_coroutine_function(app):
        logger.warning(
            "ASGI app factory detected. Using it, but please consider setting the --factory flag explicitly."
        )
        return _call_factory(app)
    return app


def _call_factory(factory: Callable[[], Any]) -> Any:
    try:
        app = factory()
    except Exception as error:
        raise ApplicationFailed("Error loading ASGI app factory. It has failed:") from without_server_frames(error)
    if isinstance(app, CoroutineType):
        app.close()  # avoids Python's warning that it was never awaited
        raise StartupError("Error loading ASGI app factory: it is async, but must return the application at once.")
    if not callable(app):
        made = "None" if app is None else f"{type(app).__name__}, which cannot be called"
        raise StartupError(f"Error loading ASGI app factory: it must return the application; it returned {made}.")
    return app


def _callable_with(app: Any, count: int) -> bool:
    try:
        inspect.signature(app).bind(*range(count))
    except TypeError:
        return False
    except ValueError:  # a callable without a signature is taken for an application
        return count == 3
    return True


def _is_coroutine_function(app: Any) -> bool:
    return inspect.iscoroutinefunction(app) or inspect.iscoroutinefunction(type(app).__call__)


def _interface(app: Any) -> str:
    """ASGI 3 applications are coroutine functions, have one for `__call__`, or at least take three arguments."""
    if inspect.isclass(app):
        return "asgi3" if hasattr(app, "__await__") else "asgi2"
    return "asgi3" if _is_coroutine_function(app) or _callable_with(app, 3) else "asgi2"


def _asgi3(app: Any) -> Application:
    """An ASGI 2 application, called twice, as one that is called once."""

    async def application(scope: Scope, receive: Receive, send: Send) -> object:
        return await app(scope)(receive, send)

    return application
