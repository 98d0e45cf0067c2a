"""Workers of one server without the server: handles that only note their orders, and real workers side by side."""

import socket

from pounce.config import Config
from pounce.net.listeners import Listener
from pounce.supervisor.generation import Generation, Kind
from pounce.supervisor.handle import CHECK_INTERVAL
from pounce.supervisor.pool import Pool
from pounce.worker.balance import Balancer
from pounce.worker.census import NONE_IN_FLIGHT
from pounce.worker.worker import Report
from tests.support.applications import hello
from tests.support.harness import Rig, skipping_loop


class Handle:
    """A worker that only notes its orders."""

    def __init__(self, generation, number, on_report):
        self.generation, self.number, self.report = generation, number, on_report
        self.name = f"handle {number}"
        self.orders = []
        self.waited = 0.0
        self.requests = 0
        self.stack = '  File "app.py", line 1 in app'
        self.hung = False
        self.exit_code = 0

    def retire(self, heir=None, *, hurry=False):
        """Noted with what it was told beside it."""
        self.orders.append(("retire", *([heir] if heir else []), *(["hurry"] if hurry else [])))

    def __getattr__(self, name):
        return lambda *arguments: self.orders.append((name, *arguments))

    def blocked_for(self, now):
        return self.waited

    def running(self):
        return self.requests

    def in_flight(self):
        return NONE_IN_FLIGHT

    def describe_block(self):
        return "GET /x", self.stack


FIRST, SECOND, THIRD = (
    Generation(number, Config("nothing:app"), application=None, kind=Kind.PROCESS) for number in (1, 2, 3)
)


class Owner:
    def __init__(self):
        self.made = []
        self.failures = []
        self.rolls = []
        self.gone = []
        self.ended = 0

    def make_worker(self, generation, number, on_report):
        self.made.append(Handle(generation, number, on_report))
        return self.made[-1]

    def first_ready(self): ...

    def all_ready(self): ...

    def pool_failed(self, code):
        self.failures.append(code)

    def request_limit_reached(self): ...

    def roll_ended(self, generation, failure):
        self.rolls.append((generation.number, failure))

    def generation_ended(self, generation):
        self.gone.append(generation.number)

    def pool_ended(self):
        self.ended += 1


class PoolRig:
    def __init__(self, count, stuck_timeout=None):
        self.loop, self.selector = skipping_loop()
        self.owner = Owner()
        self.balancer = Balancer(count, processes=False)
        self.pool = Pool(self.owner, self.loop, FIRST, count, self.balancer, stuck_timeout)
        self.pool.start()
        for handle in self.owner.made:  # grows while it is read
            handle.report(Report.READY)
        self.pool.serve()
        self.handles = [slot.worker for slot in self.pool.slots]
        self.forget()

    def forget(self):
        for handle in self.owner.made:
            handle.orders.clear()

    def scan(self, times=1):
        for _ in range(times):
            self.selector.skip = CHECK_INTERVAL
            self.loop.turn(0)


def pair():
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    return ours, (theirs, None, ("", None))


class Siblings:
    """Workers of one server, turned when the test says so, each with a port of its own to choose it by."""

    def __init__(self, count, app=hello, **options):
        sockets = []
        for _ in range(count):
            sockets.append(socket.create_server(("127.0.0.1", 0)))
            sockets[-1].setblocking(False)
        self.listener = Listener(sockets, sockets[0].getsockname()[:2])
        self.balancer = Balancer(count, processes=False)
        self.rigs = [Rig(app, place=(number, [self.listener], self.balancer), **options) for number in range(count)]
        self.clients = []

    def turn(self):
        for _ in range(3):
            for rig in self.rigs:
                rig.turn(2)

    def connect(self, number, data=b""):
        client = socket.create_connection(self.listener.sockets[number].getsockname())
        client.sendall(data)
        client.settimeout(5)
        self.clients.append(client)
        return client

    @property
    def counts(self):
        return [len(rig.worker.connections) for rig in self.rigs]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for client in self.clients:
            client.close()
        self.turn()
        self.listener.close()
