"""What a worker tells its supervisor."""

import enum


class Report(enum.Enum):
    READY = "ready"
    FAILED = "failed"
    """Its application did not start. The worker ends."""
    RETIRING = "retiring"
    """It has reached its request limit, and goes on until it is told to retire or to stop."""
    CRASHED = "crashed"
    """Its loop has failed; it drains, and needs a successor."""
    ENDED = "ended"
    """The last report."""
