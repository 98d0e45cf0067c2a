"""Listening sockets: where the server can be reached.

Every socket is opened by the supervisor, before a worker exists: errors are seen at once and in one place, and a
worker that dies takes no address with it. Where the kernel spreads connections over sockets bound to one address
with SO_REUSEPORT (Linux), each worker gets its own; elsewhere, and on Unix sockets, all share one.

Opening is in two steps. `open` binds, so that a taken port is known before the application is imported;
`listen` lets clients in, when every worker is ready for them.

A socket may be held by another process as well, which goes on listening there. It is never closed to new clients here:
no handshakes are stopped, it is not shut down, and the file of a Unix socket stays. This is so for a socket of `--fd`,
for one that a successor has taken over (`hand_on`), and for one of a predecessor until this server is ready
(`take_over`). A socket that is closed instead resets the connections that wait in its queue.

Owner: the supervisor's thread. A worker only accepts from the sockets it was given.
"""

import contextlib
import errno
import mmap
import os
import socket
import stat
import sys
from collections.abc import Sequence

from pounce.config.bind import Bind
from pounce.errors import StartupError
from pounce.net.address import Address
from pounce.net.handshakes import stop_handshakes
from pounce.net.inherited import InheritedSockets
from pounce.net.progress import TCP_NOTSENT_LOWAT

BALANCES = sys.platform == "linux"
"""Does SO_REUSEPORT spread connections here? (BSD and macOS give them all to the last socket bound.)"""

MAX_UNSENT = 256 * 1024
"""Bytes that the kernel may hold for a client that does not take them. Without a bound it takes 2.8 MB for each, and a
thousand slow readers all the memory that Linux gives to TCP; with it, what an application streams stays with the
application until the client takes it. `net.stream` lends more to a few."""


class Listener:
    """One address and the sockets bound to it: one per worker, or one for all, or several for each."""

    def __init__(
        self, sockets: list[socket.socket], address: Address, *, workers: int | None = None, owns_path: bool = False,
        inherited: bool = False, adopted: bool = False, fd: int | None = None,
    ) -> None:  # fmt: skip
        """`workers`: how many share the sockets; None: one for each. `adopted`: the server process before this one has
        opened them. `fd`: the number of `--fd`."""
        self.sockets = sockets
        self.address = address
        self.fd = fd
        self.private = False
        """Is it for the operator alone, and no worker's?"""
        self._adopted = adopted
        self._shares = min(workers or len(sockets), len(sockets))
        self._inherited = mmap.mmap(-1, 1)  # worker processes, which were forked before, read it as well
        self.inherited = inherited
        self._inode = os.stat(address[0]).st_ino if owns_path else None

    @property
    def inherited(self) -> bool:
        """Does another process hold the sockets as well, which will go on listening? Workers read it."""
        return self._inherited[0] != 0

    @inherited.setter
    def inherited(self, value: bool) -> None:
        self._inherited[0] = value

    def hand_on(self) -> None:
        """Another process has the sockets as well now, and goes on listening."""
        self.inherited = True

    def take_over(self) -> None:
        """No other process goes on listening here, unless it is a socket of `--fd`."""
        if self.inherited and self.fd is None:
            self.inherited = False
            if self.address[1] is None:
                self._inode = _inode(self.address[0])

    @property
    def words(self) -> list[str]:
        """Names each socket by its descriptor, as `InheritedSockets` reads it."""
        prefix = "" if self.fd is None else f"fd{self.fd}="
        return [f"{prefix}{sock.fileno()}" for sock in self.sockets]

    @property
    def reachable(self) -> bool:
        """Is the file of the Unix socket this server's still?"""
        return self._inode is None or self._inode == _inode(self.address[0])

    @property
    def url(self) -> str:
        """How a person writes the address."""
        host, port = self.address
        if port is None:
            return f"unix:{host}"
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    @property
    def announcement(self) -> str:
        """The address in the line that says where the server runs, as uvicorn has it there."""
        host, port = self.address
        return f"unix socket {host}" if port is None else self.url

    def for_worker(self, number: int) -> list[socket.socket]:
        """Those of the worker in the slot `number`. Together, the workers have every socket."""
        return self.sockets[number % self._shares :: self._shares]

    def listen(self, backlog: int) -> None:
        """Lets clients in. Raises StartupError when another server has begun to listen here since `open`."""
        try:
            if len(self.sockets) > 1 and not self._adopted:
                _check_free(self.sockets[0].family, self.sockets[0].getsockname())
            for sock in self.sockets:
                sock.setblocking(False)
                sock.listen(backlog)
        except OSError as error:
            raise StartupError(
                f"cannot listen at {self.url}: {_reason(error, self.address[1] or self.address[0])}"
            ) from None

    def stop_handshakes(self) -> None:
        """Lets no new connection begin; what has begun can still be accepted. May be asked by several workers."""
        for sock in self.sockets if not self.inherited else ():
            stop_handshakes(sock)

    def shut_down(self) -> None:
        """Ends listening in all processes that have the sockets, so that another server can listen here. An inherited
        socket is left to the process that it came from."""
        for sock in self.sockets if not self.inherited else ():
            with contextlib.suppress(OSError):  # already shut; a system where a listening socket can only be closed
                sock.shutdown(socket.SHUT_RD)

    def change_owner(self, uid: int, gid: int) -> None:
        """Of the Unix socket's file, if this server has made it; -1: no other."""
        if self._inode is not None and self.reachable:
            os.chown(self.address[0], uid, gid, follow_symlinks=False)

    def unlink(self) -> None:
        """Removes the file of the Unix socket, unless another server has put its own there."""
        if self._inode is not None and not self.inherited:
            if self.reachable:
                # Without root's rights, which bound it, it may have to stay. A server that binds there replaces it.
                with contextlib.suppress(FileNotFoundError, PermissionError):
                    os.unlink(self.address[0])
            self._inode = None

    def close(self) -> None:
        self.unlink()
        for sock in self.sockets:
            sock.close()


def open_listeners(binds: Sequence[Bind], workers: int, inherited: InheritedSockets | None = None) -> list[Listener]:
    """Binds every address, or takes its sockets from `inherited`, where the rest is closed. Raises StartupError, with
    nothing left open, if an address cannot be had."""
    inherited = inherited if inherited is not None else InheritedSockets()
    listeners: list[Listener] = []
    ipv4_ports = {bind.port for bind in binds if bind.host == "0.0.0.0"}
    try:
        for bind in binds:
            found = _open(bind, 1 if bind.private else workers, ipv4_ports, inherited)
            for listener in found:
                listener.private = bind.private
            listeners += found
    except BaseException:
        for listener in listeners:
            listener.close()
        raise
    finally:
        inherited.close_rest()
    return listeners


def close_to_clients(listeners: Sequence[Listener]) -> None:
    """Lets no new client in. Each worker does so, too, but one that is blocked does it late."""
    for listener in listeners:
        listener.stop_handshakes()
        listener.unlink()  # no client finds a Unix socket any more; those that have found it are served


def words(listeners: Sequence[Listener]) -> list[str]:
    """The sockets, as `InheritedSockets` reads them in another process. Without those at a path that another server has
    taken: the next one is to bind it again."""
    return [word for listener in listeners if listener.reachable for word in listener.words]


def _open(bind: Bind, workers: int, ipv4_ports: set[int], inherited: InheritedSockets) -> list[Listener]:
    try:
        if bind.fd is not None:
            return [_open_fd(bind.fd, inherited)]
        if bind.path is not None:
            return [_open_path(bind, bind.path, workers, inherited)]
        return _open_tcp(bind.host or "", bind.port, workers, inherited, dual=bind.port not in ipv4_ports)
    except OSError as error:
        raise StartupError(f"cannot bind ({bind.source}): {_reason(error, bind.path or bind.port)}") from None


def _reason(error: OSError, place: str | int) -> str:
    """`place` is the port, or the path of a Unix socket."""
    text = error.strerror or str(error)
    text = text[:1].lower() + text[1:]
    if error.errno == errno.EADDRINUSE:
        from pounce.net import port_user

        who = port_user.user_of_path(place) if isinstance(place, str) else port_user.user_of_port(place)
        by, whom = (f" by {who}", "it") if who else ("", "the other server")
        return f"{text}{by}; stop {whom} or choose another address"
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return text + "; raise the limit (ulimit -n)"
    if error.errno == errno.EACCES:
        return text + "; choose a port from 1024 up, or a place this user may write to"
    return text


def from_sockets(sockets: Sequence[socket.socket]) -> list[Listener]:
    """Listens at sockets of the caller's, which stay its own."""
    return [_open_fd(sock.fileno(), InheritedSockets()) for sock in sockets]


def _open_fd(fd: int, inherited: InheritedSockets) -> Listener:
    if found := inherited.of_fd(fd):
        sock = found[0]
    else:
        copy = os.dup(fd)  # the number is the caller's, who may close it
        try:
            sock = socket.socket(fileno=copy)
        except OSError:
            os.close(copy)
            raise
    try:
        _check_can_listen(sock)
    except OSError:
        sock.close()
        raise
    if sock.family != socket.AF_UNIX:
        with contextlib.suppress(OSError):  # another protocol than TCP, such as MPTCP
            _set_tcp_options(sock)
    return Listener([sock], address_of(sock), inherited=True, fd=fd)


def address_of(sock: socket.socket) -> Address:
    """Where it is bound. An abstract Unix socket's name begins with `@`, as systemd writes it."""
    name = sock.getsockname()
    if sock.family != socket.AF_UNIX:
        return (name[0], name[1])
    path = name if isinstance(name, str) else name.decode(errors="replace")
    return ("@" + path[1:] if path.startswith("\0") else path, None)


def _check_can_listen(sock: socket.socket) -> None:
    """Raises OSError with a text for those who have opened it for this server."""
    if sock.family not in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX):
        raise OSError(errno.EINVAL, "it is neither an IP socket nor a Unix socket")
    if sock.type != socket.SOCK_STREAM:
        raise OSError(errno.EINVAL, "it is not a stream socket; a systemd socket unit needs ListenStream=")
    try:
        sock.getpeername()
    except OSError:
        return
    raise OSError(errno.EISCONN, "it is a connection, not a listening socket; a systemd socket unit needs Accept=no")


def _open_path(bind: Bind, path: str, workers: int, inherited: InheritedSockets) -> Listener:
    if adopted := inherited.of_path(path):
        return Listener(adopted, (path, None), workers=workers, inherited=True, adopted=True)
    mode = bind.mode if bind.mode is not None or bind.private else 0o666
    try:
        found = os.stat(path)
    except FileNotFoundError:
        pass
    else:
        if not stat.S_ISSOCK(found.st_mode):
            raise OSError(errno.EEXIST, f"{path} exists and is not a socket")
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(1.0)
            if probe.connect_ex(path) != errno.ECONNREFUSED:
                raise OSError(errno.EADDRINUSE, f"a server is listening at {path}")
        if bind.mode is None:  # a file that is replaced leaves its rights
            mode = stat.S_IMODE(found.st_mode)
        os.unlink(path)
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.bind(path)
        if mode is not None:
            os.chmod(path, mode)
        return Listener([sock], (path, None), owns_path=True)
    except OSError:
        sock.close()
        raise


def _open_tcp(host: str, port: int, workers: int, inherited: InheritedSockets, *, dual: bool) -> list[Listener]:
    # As bytes where that is the same: for a string, Python loads all of Unicode, which is half a MiB.
    asked = host.encode() if host.isascii() else host
    try:
        found = socket.getaddrinfo(asked or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror as error:
        raise OSError(error.errno, f"{host}: {error.strerror}") from None
    except UnicodeError:
        raise OSError(errno.EINVAL, f"{host}: not a host name") from None
    # One name may stand for several addresses (localhost), and all of them get the same port.
    addresses = list(dict.fromkeys((family, name) for family, _, _, _, name in found))
    # `::` alone serves IPv4 as well, unless IPv4 has been asked for at the same port.
    dual = dual and len(addresses) == 1
    listeners: list[Listener] = []
    try:
        for family, name in addresses:
            adopted = inherited.of_tcp(family, name[0], port, dual=dual)
            try:
                if adopted:
                    sockets = adopted + _bind_more(adopted, workers, dual=dual)
                else:
                    sockets = _bind_tcp(family, (name[0], port, *name[2:]), workers if BALANCES else 1, dual=dual)
            except OSError as error:
                for sock in adopted:
                    sock.close()
                # The name resolves to IPv6 as well, but this machine has none: the other address will do.
                if (
                    error.errno in _NO_SUCH_FAMILY
                    and len(addresses) > 1
                    and (listeners or name is not addresses[-1][1])
                ):
                    continue
                raise
            port = sockets[0].getsockname()[1]
            listeners.append(
                Listener(sockets, (str(name[0]), port), workers=workers, inherited=bool(adopted), adopted=bool(adopted))
            )
    except BaseException:
        for listener in listeners:
            listener.close()
        raise
    return listeners


_NO_SUCH_FAMILY = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


def _bind_more(adopted: list[socket.socket], workers: int, *, dual: bool) -> list[socket.socket]:
    """Sockets beside adopted ones, where there are more workers and the kernel lets another be bound there."""
    first, missing = adopted[0], workers - len(adopted)
    if not BALANCES or missing <= 0 or not first.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT):
        return []
    return _bind_all(first.family, first.getsockname(), missing, shared=True, dual=dual)


def _bind_tcp(family: int, name: tuple[str | int, ...], workers: int, *, dual: bool) -> list[socket.socket]:
    if workers > 1 and name[1]:
        _check_free(family, name)
    return _bind_all(family, name, workers, shared=workers > 1, dual=dual)


def _bind_all(family: int, name: tuple[str | int, ...], count: int, *, shared: bool, dual: bool) -> list[socket.socket]:
    sockets: list[socket.socket] = []
    try:
        for _ in range(count):
            sock = socket.socket(family, socket.SOCK_STREAM)
            sockets.append(sock)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if shared:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not dual)
            _set_tcp_options(sock)
            sock.bind(name)
            name = (name[0], sock.getsockname()[1], *name[2:])  # port 0: the first socket chooses for all
    except BaseException:
        for sock in sockets:
            sock.close()
        raise
    return sockets


def _set_tcp_options(sock: socket.socket) -> None:
    """Accepted sockets inherit them, which saves system calls for each. (Not SO_KEEPALIVE: Linux asks thousands of
    clients in one moment, more than a network's queue holds, and gives up those it could not ask.)"""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if TCP_NOTSENT_LOWAT:
        sock.setsockopt(socket.IPPROTO_TCP, TCP_NOTSENT_LOWAT, MAX_UNSENT)


def _inode(path: str) -> int:
    """0 where there is no such file."""
    try:
        return os.stat(path).st_ino
    except OSError:
        return 0


def _check_free(family: int, name: tuple[str | int, ...]) -> None:
    """Raises OSError when another server listens here. With SO_REUSEPORT the kernel lets both listen, if one user has
    both, and half of the other server's requests would come here. A socket without SO_REUSEPORT is refused."""
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(name)
