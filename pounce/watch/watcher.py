"""Watches the files of a development server, in the best way that this system has.

    inotify      Linux
    watchfiles   other systems, where the package is installed
    polling      everywhere else; on file systems that report no changes from outside; when inotify has no watch left

Owner: the loop's thread.
"""

import importlib.util
import logging
from collections.abc import Callable
from typing import Protocol

from pounce.kernel.loop import Loop, Timer
from pounce.watch import mounts
from pounce.watch.filter import Filter
from pounce.watch.inotify import Inotify, Unavailable, Unsupported
from pounce.watch.polling import Polling
from pounce.watch.settling import Settling
from pounce.watch.source import Source
from pounce.watch.tree import Tree
from pounce.watch.watchfiles import Watchfiles

logger = logging.getLogger("pounce.error")

ROOTS_INTERVAL = 1.0
"""Seconds between two looks at whether the watched folders are still the same. Nothing reports that they are not."""


class Watcher(Protocol):
    @property
    def how(self) -> str:
        """`inotify`, `watchfiles` or `polling`. May change while watching."""

    def close(self) -> None:
        """Ends watching. `on_change` is not called again."""


def watch(loop: Loop, filter: Filter, on_change: Callable[[set[str]], object], delay: float) -> Watcher:
    """Calls `on_change` on the loop with the real paths of files that have changed, were made or were removed, when
    they have settled and at most once in `delay` seconds. To be called on the loop's thread; reads the whole tree."""
    return _Watcher(loop, filter, on_change, delay)


class _Watcher:
    def __init__(self, loop: Loop, filter: Filter, on_change: Callable[[set[str]], object], delay: float) -> None:
        self._loop = loop
        self._delay = delay
        self._tree = Tree(filter)
        self._settling = Settling(loop, on_change, delay, self._tree.state, self._catch_up)
        self._reason = ""
        """Why the best way has failed."""
        self._closed = False
        self._source = self._first_source()
        self._roots: Timer = loop.call_later(ROOTS_INTERVAL, self._check_roots)

    @property
    def how(self) -> str:
        return self._source.how

    def _first_source(self) -> Source:
        reason = mounts.silent((*self._tree.filter.roots, *self._tree.filter.files))
        if not reason:
            try:
                return self._inotify()
            except Unavailable as error:
                reason = str(error)
            except Unsupported:
                reason = "watchfiles is not installed; pip install 'pounce-asgi[reload]'"
                if importlib.util.find_spec("watchfiles") is not None:
                    self._tree.check_roots()
                    return Watchfiles(self._loop, self._tree, self._settling.add, self._failed, self._delay)
        self._tree.check_roots()
        return self._polling(reason)

    def _inotify(self) -> Source:
        source = Inotify(self._loop, self._tree, self._settling.add, self._failed)
        self._tree.check_roots()  # sets the watches
        if self._reason:
            source.close()
            raise Unavailable(self._reason)
        return source

    def _polling(self, reason: str) -> Source:
        logger.warning("Changes are found by polling: %s", reason)
        return Polling(self._loop, self._tree, self._settling.add, self._delay)

    def _failed(self, reason: str) -> None:
        """May be called in the middle of a scan."""
        if not self._reason:
            self._reason = reason
            self._loop.call_soon(self._fall_back)

    def _fall_back(self) -> None:
        if not self._closed and self._source.how != "polling":
            self._source.close()
            self._source = self._polling(self._reason)
            self._settling.add(self._tree.rescan())

    def _check_roots(self) -> None:
        self._roots = self._loop.call_later(ROOTS_INTERVAL, self._check_roots)
        self._settling.add(self._tree.check_roots())

    def _catch_up(self) -> None:
        self._source.catch_up()

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._roots.cancel()
            self._settling.close()
            self._source.close()
