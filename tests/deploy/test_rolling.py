"""Restarts behind a proxy that keeps connections: no request is lost, not even one that nobody may send twice."""

import contextlib
import signal
import threading

from tests.deploy.clients import seen
from tests.deploy.examples import arguments
from tests.deploy.proxies import haproxy, nginx
from tests.support.server import Running
from tests.support.upgrades import Lineage

SERVER = "server one 127.0.0.1:8000 send-proxy-v2 proxy-v2-options ssl,unique-id,authority"


class Clients:
    """Threads that post until they are told to end; what went wrong."""

    def __init__(self, port, number=3):
        self.port = port
        self.asked = 0
        self.failures = []
        self.ending = threading.Event()
        self.threads = [threading.Thread(target=self.ask) for _ in range(number)]
        for thread in self.threads:
            thread.start()

    def ask(self):
        while not self.ending.is_set():
            try:
                seen(self.port, method="POST", content=b"once")
            except (AssertionError, OSError, ValueError) as error:
                self.failures.append(error)
            self.asked += 1

    def end(self):
        self.ending.set()
        for thread in self.threads:
            thread.join(60)


def test_drain_delay_a_server_that_stops_behind_haproxy_costs_no_request(place):
    words = arguments("haproxy.cfg")
    words[words.index("--drain-delay") + 1] = "2"
    with contextlib.ExitStack() as stack:
        one, two = (stack.enter_context(Running(*words)) for _ in range(2))
        lines = [SERVER.replace("8000", str(each.address[1])) for each in (one, two)]
        both = "\n    ".join([lines[0], lines[1].replace("one", "two", 1)])
        changes = [(SERVER, both), ("inter 2s", "inter 100ms")]
        port = stack.enter_context(haproxy(place, "127.0.0.1:8000", *changes))
        clients = Clients(port)
        stack.callback(clients.end)
        for server in (one, two):
            server.wait_for('"POST / HTTP/1.1" 200')
        assert one.stop() in (0, 143)
        before = sum('"POST / HTTP/1.1" 200' in line for line in two.lines)
        two.wait_for('"POST / HTTP/1.1" 200', count=before + 20)
        clients.end()
        assert not clients.failures


def test_sighup_and_sigusr2_behind_nginx_cost_no_request(place):
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(Lineage(*arguments("nginx.conf")))
        port = stack.enter_context(nginx(place, "{}:{}".format(*server.address)))
        clients = Clients(port)
        stack.callback(clients.end)
        server.wait_for('"POST / HTTP/1.1" 200')
        server.send_signal(signal.SIGHUP)
        server.wait_for("The workers have been replaced")
        server.upgrade()
        assert server.end() == 0
        asked = clients.asked
        server.wait_for('"POST / HTTP/1.1" 200', count=asked + 20)
        clients.end()
        assert not clients.failures
        server.stop_newest()
