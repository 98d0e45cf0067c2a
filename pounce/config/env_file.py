"""The file of --env-file, read by python-dotenv: one of its values, or all of them added to the environment.

Must never change a variable that is set already, as with uvicorn. Owner: the thread that loads the application.
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


def load(path: str) -> None:
    """Sets the variables of the file that are not set. Raises StartupError."""
    try:
        from dotenv import load_dotenv
    except ImportError:
        raise StartupError("--env-file needs python-dotenv: pip install 'pounce-asgi[dotenv]'") from None
    _read(path, load_dotenv)


def _read(path: str | os.PathLike[str], read: Callable[..., Any]) -> Any:
    try:
        return read(dotenv_path=path)
    except (OSError, ValueError) as error:  # unreadable, or not text
        reason = error.strerror if isinstance(error, OSError) else error
        raise StartupError(f"--env-file: {path}: {reason}") from None
