"""What a worker tells its supervisor."""

import enum


class Report(enum.Enum):
    READY = "ready"
    FAILED = "failed"
    """Its application did not start. The worker ends."""
    RETIRING = "retiring"
    """It has reached its request limit, or somebody has asked it to end; it goes on until the supervisor does."""
    CRASHED = "crashed"
    """Its loop has failed; it drains, and needs a successor."""
    ENDED = "ended"
    """The last report."""
