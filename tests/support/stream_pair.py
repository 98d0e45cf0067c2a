"""A stream and its client over TCP, where resets exist."""

import socket
import threading

from pounce.net.byte_stream import Peer
from pounce.net.progress import Progress
from pounce.net.stream import SocketStream
from tests.support.harness import skipping_loop


class Owner:
    def __init__(self):
        self.events = []

    def data_received(self, data):
        self.events.append(data)

    def eof_received(self):
        self.events.append("ended")

    def write_resumed(self):
        self.events.append("drained")

    def connection_lost(self, error):
        self.events.append(("lost", None if error is None else error.errno))


class Pair:
    """A stream and the client's end of it, over TCP, where resets exist."""

    def __init__(self):
        self.loop, self.selector = skipping_loop()
        self.owner = Owner()
        with socket.create_server(("127.0.0.1", 0)) as listening:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 32768)
            self.client = socket.socket()
            self.client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32768)
            self.client.connect(listening.getsockname())
            ours, _ = listening.accept()
        ours.setblocking(False)
        self.client.settimeout(10)
        self.bounds = Progress(self.loop, write=30.0, linger=5.0, senders=())
        self.stream = SocketStream(self.loop, ours, Peer(None, None), self.bounds)
        self.stream.set_owner(self.owner)

    def turn(self, times=3, timeout=0.05):
        for _ in range(times):
            self.loop.turn(timeout)

    def close(self):
        self.stream.abort()
        self.client.close()
        self.loop.close()


def read_all(pair, count):
    """Reads `count` bytes at the client's end, on a thread, while the loop turns."""
    got = bytearray()

    def reader():
        while len(got) < count:
            part = pair.client.recv(65536)
            if not part:
                return
            got.extend(part)

    thread = threading.Thread(target=reader)
    thread.start()
    while thread.is_alive():
        pair.turn(1, 0.01)
    return bytes(got)


def pass_time(pair, seconds, step=0.25):
    """No faster than the loop would turn."""
    while seconds > 0:
        pair.selector.skip = min(step, seconds)
        pair.turn(timeout=0)
        seconds -= step
