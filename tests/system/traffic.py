"""Clients that ask without pause."""

import socket
import threading
import time


class Clients:
    """Clients that ask without pause, each on a kept connection, and count: asked, answered, refused, cut.

    `cut` counts requests that were sent on an accepted connection and got no whole answer.
    """

    def __init__(self, address, count=8, path="/"):
        self.address = address
        self.request = f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode()
        self.answered = self.refused = 0
        self.cut = []
        self.enough = threading.Event()
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=self.run) for _ in range(count)]
        for thread in self.threads:
            thread.start()

    def run(self):
        sock = None
        while not self.enough.is_set():
            if sock is None:
                try:
                    sock = socket.create_connection(self.address, timeout=30)
                except OSError:
                    with self.lock:
                        self.refused += 1
                    time.sleep(0.01)
                    continue
            try:
                sock.sendall(self.request)
                answer = sock.recv(65536)
            except OSError as error:
                answer = error
            if not isinstance(answer, bytes) or not answer.endswith(b"hello"):
                with self.lock:
                    self.cut.append(answer)
                answer = b"connection: close"
            else:
                with self.lock:
                    self.answered += 1
            if b"connection: close" in answer:
                sock.close()
                sock = None
        if sock is not None:
            sock.close()

    def wait_for(self, answered):
        end = time.monotonic() + 60
        while self.answered < answered:
            assert time.monotonic() < end, (self.answered, self.refused, self.cut)
            time.sleep(0.01)

    def stop(self):
        self.enough.set()
        for thread in self.threads:
            thread.join()
