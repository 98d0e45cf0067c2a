"""The states of an HTTP/1 connection, what may follow each of them, and which have a deadline.

    HEAD      a head is awaited or has come in part. Deadline for the whole head, from the accept or its first byte
    IDLE      between two requests. Keep-alive deadline
    DRAINING  the same while the worker drains, for a client that was busy just now. Short deadline
    CONTENT   content of the request is awaited, for the application or to be thrown away. Deadline for all of it
    EXTENDED  the same, later: a client that keeps up the least rate is given another second, again and again
    RESPONSE  the application is at work, or the client takes the response: nothing is awaited from the client. The
              stream watches the progress of what is sent
    CLOSING   no further request is served: the stream closes, is closed, or carries a WebSocket

A request that is answered within one call changes no state: the connection is idle before and after it.
"""

from typing import Final, Literal

type State = Literal["head", "idle", "draining", "content", "extended", "response", "closing"]
HEAD: Final = "head"
IDLE: Final = "idle"
DRAINING: Final = "draining"
CONTENT: Final = "content"
EXTENDED: Final = "extended"
RESPONSE: Final = "response"
CLOSING: Final = "closing"

TRANSITIONS: dict[State, tuple[State, ...]] = {
    HEAD: (IDLE, DRAINING, CONTENT, RESPONSE, CLOSING),
    IDLE: (HEAD, DRAINING, CONTENT, RESPONSE, CLOSING),
    DRAINING: (HEAD, CONTENT, RESPONSE, CLOSING),
    CONTENT: (HEAD, IDLE, DRAINING, EXTENDED, RESPONSE, CLOSING),
    EXTENDED: (HEAD, IDLE, DRAINING, CONTENT, RESPONSE, CLOSING),
    RESPONSE: (HEAD, IDLE, DRAINING, CONTENT, CLOSING),
    CLOSING: (),
}
"""From each state, the states that may follow."""
