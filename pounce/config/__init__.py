"""Options: where their values come from, what they mean, what is wrong with them."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pounce.config.config import Config as Config


def __getattr__(name: str) -> Any:
    """`from pounce.config import Config`, as people write it who know `uvicorn.config`. Imported when it is asked for:
    whoever needs one module of this room does not load them all."""
    if name == "Config":
        from pounce.config.config import Config

        return Config
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
