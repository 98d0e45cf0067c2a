"""The file of --env-file, read by python-dotenv: one of its values, or all of them added to the environment.

Must never change a variable that is set already, as with uvicorn, but for those that it has set itself: the file may
have changed when the application is loaded again. Owner: the thread that loads the application.
"""

import os
from collections.abc import Callable
from typing import Any

from pounce.errors import StartupError


def value(path: str, name: str) -> str | None:
    """The value that the file gives to one variable; None if it gives none, or python-dotenv is not installed."""
    try:
        from dotenv import dotenv_values
    except ImportError:
        return None  # `load` raises the error
    found: str | None = _read(path, dotenv_values).get(name)
    return found


def variable(path: str | None, name: str) -> tuple[str | None, str]:
    """A variable of the environment, or the one that the file, if there is one, will add to it, and its source for
    errors. A value that `load` has set is asked for again."""
    text = os.environ.get(name)
    if path and (text is None or _loaded.get(name) == text):
        return value(path, name), f"{path}: {name}"
    return text, name


_loaded: dict[str, str] = {}
"""The variables that `load` has set, and their values."""


def load(path: str) -> None:
    """Sets the variables of the file that are not set, and when it is loaded again, those that it has set. Raises
    StartupError."""
    try:
        from dotenv import dotenv_values, load_dotenv
    except ImportError:
        raise StartupError("--env-file needs python-dotenv: pip install 'pounce-asgi[dotenv]'") from None
    values: dict[str, str | None] = _read(path, dotenv_values)
    for name, before in list(_loaded.items()):
        now = values.get(name)
        unchanged = os.environ.get(name) == before  # by the application
        if unchanged and now is not None:
            os.environ[name] = _loaded[name] = now
            continue
        del _loaded[name]
        if unchanged:
            del os.environ[name]
    unset = [name for name in values if name not in os.environ]
    _read(path, load_dotenv)
    _loaded.update((name, os.environ[name]) for name in values if name in os.environ and name in unset)


def _read(path: str | os.PathLike[str], read: Callable[..., Any]) -> Any:
    try:
        return read(dotenv_path=path)
    except (OSError, ValueError) as error:  # unreadable, or not text
        reason = error.strerror if isinstance(error, OSError) else error
        raise StartupError(f"--env-file: {path}: {reason}") from None
