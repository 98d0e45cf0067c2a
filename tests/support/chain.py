"""One slot of a server on threads, whose worker is replaced again and again, without the server around it."""

import collections
import contextvars
import threading

from pounce.app.loading import load
from pounce.config import Config
from pounce.config.bind import Bind
from pounce.kernel.loop import Loop
from pounce.net.listeners import open_listeners
from pounce.supervisor.threads import ThreadWorker
from pounce.supervisor.workers import Workers
from pounce.worker.balance import Balancer
from pounce.worker.control import Report


class Chain:
    """The thread that makes it is the supervisor's, and must turn `loop` for what is timed to happen."""

    def __init__(self, app, *, balanced=False, **options):
        self.loop = Loop()
        self.config = Config(app, **{"access_log": False, "lifespan": "off", **options})
        [self.listener] = open_listeners([Bind("--port 0", host="127.0.0.1", port=0)], 1)
        self.listener.listen(1000)
        self.balancer = Balancer(1, processes=False) if balanced else None
        self.all_ended = False
        self.workers = Workers(self.loop, self.config.timeout_graceful_shutdown, self._on_all_ended)
        self.reports = collections.Counter()
        self.worker = None
        self.replace()

    def _on_all_ended(self):
        self.all_ended = True

    @property
    def address(self):
        return self.listener.address

    @property
    def url(self):
        return "http://{}:{}".format(*self.address)

    def turn_until(self, condition):
        while not condition():
            self.loop.turn(0.05)

    def replace_among(self, clients, seen, times, *, hurry):
        """Replaces the worker again and again while threads are its clients, and waits for their end. `seen` grows with
        what they have asked for, `enough` tells all of them to end, and `failure` is what one of them has met."""
        for client in clients:
            client.start()
        for number in range(times):
            self.replace(hurry=hurry)
            wanted = len(seen) + number % 3 * len(clients)  # at once, or when more has been asked
            self.turn_until(lambda wanted=wanted: len(seen) >= wanted or any(client.failure for client in clients))
        for client in clients:
            client.enough.set()
        for client in clients:
            client.join(60)

    def replace(self, app=None, **how):
        """Starts a worker; the one before it retires when it is ready."""
        ready = []

        def on_report(report):
            self.reports[report] += 1
            if report is Report.READY:
                ready.append(worker)
                self.workers.started(worker)
            elif report is Report.ENDED:
                self.workers.ended(worker)

        config = self.config if app is None else Config(app, access_log=False, lifespan="off")
        worker = ThreadWorker(
            0, config, lambda: load(config), [self.listener], self.loop, on_report, self.balancer,
            contextvars.copy_context(),
        )  # fmt: skip
        self.workers.start(worker)
        self.turn_until(lambda: ready)
        before, self.worker = self.worker, worker
        worker.serve()
        if before is not None:
            self.workers.retire(before, worker, **how)

    def meanwhile(self, function):
        """What `function` returns on a thread of its own, while this one turns the loop."""
        results = []
        thread = threading.Thread(target=lambda: results.append(function()))
        thread.start()
        self.turn_until(lambda: not thread.is_alive())
        thread.join()
        [result] = results
        return result

    def until_only_one_is_left(self):
        """Every worker that has retired has ended."""
        self.turn_until(lambda: self.reports[Report.READY] - self.reports[Report.ENDED] == 1)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.workers.stop(30)
        self.turn_until(lambda: self.all_ended)
        self.listener.close()
        self.loop.close()
