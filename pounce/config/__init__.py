"""Options: their values, where those come from, and the errors about them."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pounce.config.config import Config as Config


def __getattr__(name: str) -> Any:
    """`from pounce.config import Config`, as with `uvicorn.config`. Imported on first use, so that a module that needs
    one of this room does not load them all."""
    if name == "Config":
        from pounce.config.config import Config

        return Config
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
