"""The types of ASGI 3: an application, its scope, and the messages it receives and sends.

For readers and for mypy. Must never be checked at run time. Owner: none.
"""

from collections.abc import Callable, Coroutine
from typing import Any

type Message = dict[str, Any]
type Scope = dict[str, Any]
type Receive = Callable[[], Coroutine[Any, Any, Message]]
type Send = Callable[[Message], Coroutine[Any, Any, None]]
type Application = Callable[[Scope, Receive, Send], Coroutine[Any, Any, object]]
