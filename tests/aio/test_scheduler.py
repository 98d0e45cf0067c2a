"""When asyncio drives a worker's coroutines."""

from pounce.aio.scheduler import Scheduler
from pounce.kernel.loop import Loop


# Found by reading the code.
def test_asyncio_imported_after_the_workers_end_holds_it_up_no_more():
    """Another thread has imported it, and the import hook calls when the worker has ended."""
    scheduler = Scheduler(Loop(), list)
    scheduler.end(1.0)
    scheduler._attach_bridge()
    assert not scheduler.busy
