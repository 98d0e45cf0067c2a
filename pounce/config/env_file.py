"""The file of --env-file, read by python-dotenv: one value of it, or all of them put into the environment.

What is in the environment already stays, as with uvicorn.
"""

import os
from collections.abc import Callable
from typing import Any

from pounce.errors import StartupError


def value(path: str, name: str) -> str | None:
    """The value that the file gives to one variable; None if it does not, or if that cannot be known."""
    try:
        from dotenv import dotenv_values
    except ImportError:
        return None  # `load` will say so
    found: str | None = _read(path, dotenv_values).get(name)
    return found


def load(path: str) -> None:
    """Sets what the file says and the environment does not. Raises StartupError."""
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
