"""How far a response is, as the application has said it:

START     nothing has been said
HELD      the start is known and held back until the first part of the content, or the end of the turn in which
          the application waits for something else
STARTED   the head has left, and no content yet
BODY      content is flowing
TRAILERS  the content is over, trailers were promised
COMPLETE  everything has been said; the application may still be running
"""

from typing import Final, Literal

type Stage = Literal["start", "held", "started", "body", "trailers", "complete"]
# Names of the module, because an enumeration's members cost a lookup more, six times for every request.
START: Final = "start"
HELD: Final = "held"
STARTED: Final = "started"
BODY: Final = "body"
TRAILERS: Final = "trailers"
COMPLETE: Final = "complete"

TRANSITIONS: dict[Stage, tuple[Stage, ...]] = {
    START: (HELD, COMPLETE),
    HELD: (STARTED, BODY, TRAILERS, COMPLETE),
    STARTED: (BODY, TRAILERS, COMPLETE),
    BODY: (TRAILERS, COMPLETE),
    TRAILERS: (COMPLETE,),
    COMPLETE: (),
}
"""From each stage, the stages that may follow. COMPLETE may follow all, because the server answers in place of an
application that fails or is late."""

EXPECTED = {
    START: "the response has not been started with 'http.response.start'",
    HELD: "'http.response.body' must follow 'http.response.start'",
    STARTED: "'http.response.body' must follow 'http.response.start'",
    BODY: "'http.response.body' must follow until more_body is false",
    TRAILERS: "'http.response.trailers' was promised",
    COMPLETE: "the response is complete",
}
"""What must come at each of them."""
