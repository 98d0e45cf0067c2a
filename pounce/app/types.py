"""The types of ASGI 3: what an application is called with, and what it says and is told by.

They name shapes for readers and for mypy; nothing checks them at run time.
"""

from collections.abc import Callable, Coroutine
from typing import Any

type Message = dict[str, Any]
type Scope = dict[str, Any]
type Receive = Callable[[], Coroutine[Any, Any, Message]]
type Send = Callable[[Message], Coroutine[Any, Any, None]]
type Application = Callable[[Scope, Receive, Send], Coroutine[Any, Any, object]]
