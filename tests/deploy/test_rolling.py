"""Two servers behind HAProxy, one of which stops: it leaves the backend before it stops, so no request is lost."""

import contextlib
import threading

from tests.deploy.clients import seen
from tests.deploy.examples import arguments
from tests.deploy.proxies import haproxy
from tests.support.server import Running

SERVER = "server one 127.0.0.1:8000 send-proxy-v2 proxy-v2-options ssl,unique-id,authority"


class Clients:
    """Threads that ask until they are told to end; what went wrong."""

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
                seen(self.port)
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
            server.wait_for('"GET / HTTP/1.1" 200')
        assert one.stop() in (0, 143)
        before = sum('"GET / HTTP/1.1" 200' in line for line in two.lines)
        two.wait_for('"GET / HTTP/1.1" 200', count=before + 20)
        clients.end()
        assert not clients.failures
