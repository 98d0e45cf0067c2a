"""Runs a part of CPython's own asyncio tests with every event loop made a bridge loop.

    python tests/support/bridge_suite.py test_events [--stock]

`--stock` leaves the loops as they are, to compare. Prints the names of the tests that failed, a line each, and ends
with 1 if there are any; with 2 if this interpreter has no tests.
"""

import asyncio
import asyncio.unix_events
import contextlib
import sys
import unittest

from pounce.aio.event_loop import BridgeSelector, WorkerEventLoop
from pounce.kernel.loop import Loop


class Selector(BridgeSelector):
    """A bridge's selector with a worker's loop of its own, which nothing else turns."""

    def close(self):
        self._loop.close()


class BridgeLoop(WorkerEventLoop):
    def __init__(self, selector=None):
        super().__init__(Selector(Loop(selector)))


def use_bridge_loops():
    for module in (asyncio, asyncio.unix_events):
        for name in ("SelectorEventLoop", "EventLoop"):
            if hasattr(module, name):
                setattr(module, name, BridgeLoop)
    policy = getattr(asyncio.unix_events, "_UnixDefaultEventLoopPolicy", None)
    assert policy is not None, "where do loops come from in this version?"
    policy._loop_factory = BridgeLoop
    with contextlib.closing(asyncio.new_event_loop()) as loop:
        assert isinstance(loop, BridgeLoop)


def main():
    try:
        from test import support
        from test.test_asyncio import utils  # noqa: F401
    except ImportError as error:
        print(error)
        return 2
    support.use_resources = ()  # no network
    if "--stock" not in sys.argv:
        use_bridge_loops()
    suite = unittest.defaultTestLoader.loadTestsFromName(f"test.test_asyncio.{sys.argv[1]}")
    result = unittest.TextTestRunner(stream=sys.stderr, verbosity=1).run(suite)
    print(result.testsRun, "run")
    for case, trace in (*result.failures, *result.errors):
        print(case.id(), trace.strip().splitlines()[-1])
    return 0 if result.wasSuccessful() else 1


if __name__ == "__main__":
    sys.exit(main())
