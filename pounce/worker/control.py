"""The states of a worker, and what it reports to its supervisor."""

import enum


class WorkerState(enum.Enum):
    STARTING = "starting"
    """The application's lifespan is starting up."""
    READY = "ready"
    """The lifespan has started; clients are not accepted yet."""
    SERVING = "serving"
    """Accepts and serves."""
    DRAINING = "draining"
    """Serves what has been accepted and what is in its accept queues, and nothing more."""
    STOPPING = "stopping"
    """Nothing is left to serve; the application's lifespan is shutting down."""
    ENDED = "ended"
    """The loop has stopped."""


TRANSITIONS: dict[WorkerState, tuple[WorkerState, ...]] = {
    WorkerState.STARTING: (WorkerState.READY, WorkerState.STOPPING, WorkerState.ENDED),
    WorkerState.READY: (WorkerState.SERVING, WorkerState.DRAINING, WorkerState.STOPPING),
    WorkerState.SERVING: (WorkerState.DRAINING, WorkerState.STOPPING),
    WorkerState.DRAINING: (WorkerState.STOPPING,),
    WorkerState.STOPPING: (WorkerState.ENDED,),
    WorkerState.ENDED: (),
}
"""From each state, the states that may follow."""


class Report(enum.Enum):
    LIFESPAN_UNSUPPORTED = "lifespan unsupported"
    READY = "ready"
    START_FAILED = "start failed"
    """The application did not start. The worker ends."""
    WANTS_SUCCESSOR = "wants a successor"
    """It has reached its request limit, or its process was told to end by another than the supervisor; it goes on until
    the supervisor retires it."""
    LOOP_FAILED = "loop failed"
    """It drains, and needs a successor."""
    LIFESPAN_ENDING = "lifespan ending"
    """The application's lifespan has been told to shut down."""
    LIFESPAN_ENDED = "lifespan ended"
    LIFESPAN_END_FAILED = "lifespan end failed"
    ENDED = "ended"
    """The last report."""
