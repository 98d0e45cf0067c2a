"""What a worker is doing, and what it tells its supervisor."""

import enum


class Phase(enum.Enum):
    """Described where a worker goes through them: in `worker`."""

    STARTING = "starting"
    READY = "ready"
    SERVING = "serving"
    DRAINING = "draining"
    STOPPING = "stopping"
    ENDED = "ended"


class Report(enum.Enum):
    UNSUPPORTED = "unsupported"
    """Its application does not speak lifespan."""
    READY = "ready"
    FAILED = "failed"
    """Its application did not start. The worker ends."""
    RETIRING = "retiring"
    """It has reached its request limit, or somebody has asked it to end; it goes on until the supervisor does."""
    CRASHED = "crashed"
    """Its loop has failed; it drains, and needs a successor."""
    CLOSING = "closing"
    """Its application's lifespan has been told to shut down,"""
    CLOSED = "closed"
    """and has done so,"""
    UNCLOSED = "unclosed"
    """or has failed to."""
    ENDED = "ended"
    """The last report."""
