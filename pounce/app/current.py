"""The generation of the application that the running code belongs to: see `generations`.

Owner: each context has its own value.
"""

from contextvars import ContextVar

current_generation: ContextVar[object | None] = ContextVar("pounce_generation", default=None)
"""None: code of no known generation."""
