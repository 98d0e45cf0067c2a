"""Listening sockets that this process has been given by the server process before it, or by the service manager.

They come as open descriptors, and a text that lists their numbers: `7 8 fd3=9`. `fd3=9` is the socket that its server
was given as `--fd 3`, or by the service manager under this number. Where each of them listens is asked of the socket
itself. A listener takes those of its address;
what none has taken is closed here, and stays with the other process.

Must never bind, listen or shut down. Owner: the supervisor's thread.
"""

import contextlib
import socket
from collections.abc import Callable, Iterable


def descriptors(words: Iterable[str]) -> list[int]:
    """The numbers of the descriptors that words of the text name. Raises ValueError."""
    return [int(word.rpartition("=")[2]) for word in words]


class InheritedSockets:
    def __init__(self, text: str = "") -> None:
        """A number that is no open socket is left out: then the address is bound as if nothing had been given."""
        self._left: list[tuple[str, socket.socket]] = []
        self.taken: list[str] = []
        """The words of the text whose sockets a listener has."""
        self.add(text)

    def add(self, text: str) -> None:
        """As the constructor."""
        for word in text.split():
            with contextlib.suppress(OSError, ValueError):
                sock = socket.socket(fileno=descriptors([word])[0])
                sock.set_inheritable(False)  # what the application executes must not hold it
                self._left.append((word, sock))

    @property
    def fds(self) -> set[int]:
        """Those that `of_fd` would find."""
        return {int(word[2:].partition("=")[0]) for word, _ in self._left if not word.isdecimal()}

    def of_fd(self, fd: int) -> list[socket.socket]:
        """The one that had the number `fd`, or none."""
        return self._take(lambda word, _sock: word.startswith(f"fd{fd}="))

    def of_path(self, path: str) -> list[socket.socket]:
        """Those at a Unix socket's path."""
        return self._take(lambda word, sock: word.isdecimal() and sock.getsockname() == path)

    def of_tcp(self, family: int, host: str | int, port: int, *, dual: bool) -> list[socket.socket]:
        """Those at an address, which all have one port; 0: whichever it is. `dual`: an IPv6 socket also serves IPv4."""

        def listens_there(word: str, sock: socket.socket) -> bool:
            nonlocal port
            if not word.isdecimal() or sock.family != family:
                return False
            name = sock.getsockname()
            if name[0] != host or port not in (0, name[1]):
                return False
            if family == socket.AF_INET6 and bool(sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)) is dual:
                return False
            port = name[1]
            return True

        return self._take(listens_there)

    def _take(self, wanted: Callable[[str, socket.socket], bool]) -> list[socket.socket]:
        found = [(word, sock) for word, sock in self._left if wanted(word, sock)]
        self._left = [each for each in self._left if each not in found]
        self.taken += [word for word, _ in found]
        return [sock for _, sock in found]

    def close_rest(self) -> None:
        """Closes what no listener has taken."""
        for _, sock in self._left:
            sock.close()
        self._left = []
