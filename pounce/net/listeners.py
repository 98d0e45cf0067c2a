"""Listening sockets: where the server can be reached.

Every socket is opened by the supervisor, before a worker exists: errors are seen at once and in one place, and a
worker that dies takes no address with it. Where the kernel spreads connections over sockets bound to one address
with SO_REUSEPORT (Linux), each worker gets its own; elsewhere, and on Unix sockets, all share one.

Opening is in two steps. `open` binds, so that a taken port is known before the application is imported;
`listen` lets clients in, when every worker is ready for them.

Owner: the supervisor's thread. A worker only accepts from the sockets it was given.
"""

import array
import contextlib
import errno
import os
import socket
import stat
import struct
import sys
from collections.abc import Sequence

from pounce.config.bind import Bind
from pounce.errors import StartupError
from pounce.net.address import Address
from pounce.net.progress import TCP_NOTSENT_LOWAT

BALANCES = sys.platform == "linux"
"""Does SO_REUSEPORT spread connections here? (BSD and macOS give them all to the last socket bound.)"""

SO_ATTACH_FILTER, SO_BINDTOIFINDEX = 26, 62
"""From Linux's asm-generic/socket.h; the standard library does not name them."""

NO_INTERFACE = (1 << 31) - 1
"""The index of no network interface: it is the largest there can be, and they are counted from 1."""

MAX_UNSENT = 256 * 1024
"""Bytes that the kernel may hold for a client that does not take them. Without a bound it takes 2.8 MB for each, and a
thousand slow readers all the memory that Linux gives to TCP; with it, what an application streams stays with the
application until the client takes it. `net.stream` lends more to a few."""


class Listener:
    """One address and the sockets bound to it: one per worker, or one for all."""

    def __init__(
        self, sockets: list[socket.socket], address: Address, *, owns_path: bool = False, inherited: bool = False
    ) -> None:
        self.sockets = sockets
        self.address = address
        self.inherited = inherited
        """Does another process hold the sockets as well, which will go on listening?"""
        self._inode = os.stat(address[0]).st_ino if owns_path else None

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

    def for_worker(self, number: int) -> socket.socket:
        return self.sockets[number % len(self.sockets)]

    def listen(self, backlog: int) -> None:
        """Lets clients in. Raises StartupError when another server has begun to listen here since `open`."""
        try:
            if len(self.sockets) > 1:
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

    def unlink(self) -> None:
        """Removes the file of the Unix socket, unless another server has put its own there."""
        if self._inode is not None:
            try:
                if os.stat(self.address[0]).st_ino == self._inode:
                    os.unlink(self.address[0])
            except FileNotFoundError:
                pass
            self._inode = None

    def close(self) -> None:
        self.unlink()
        for sock in self.sockets:
            sock.close()


def open_listeners(binds: Sequence[Bind], workers: int) -> list[Listener]:
    """Binds every address. Raises StartupError, with nothing left open, if one cannot be had."""
    listeners: list[Listener] = []
    ipv4_ports = {bind.port for bind in binds if bind.host == "0.0.0.0"}
    try:
        for bind in binds:
            listeners += _open(bind, workers if BALANCES else 1, ipv4_ports)
    except BaseException:
        for listener in listeners:
            listener.close()
        raise
    return listeners


def _open(bind: Bind, workers: int, ipv4_ports: set[int]) -> list[Listener]:
    try:
        if bind.fd is not None:
            return [_open_fd(bind.fd)]
        if bind.path is not None:
            return [_open_path(bind.path)]
        return _open_tcp(bind.host or "", bind.port, workers, dual=bind.port not in ipv4_ports)
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
    return [_open_fd(sock.fileno()) for sock in sockets]


def _open_fd(fd: int) -> Listener:
    sock = socket.socket(fileno=os.dup(fd))  # the number is the caller's, who may close it
    name = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        address = name if isinstance(name, str) else name.decode(errors="replace")
        return Listener([sock], (address, None), inherited=True)
    return Listener([sock], name[:2], inherited=True)


def _open_path(path: str) -> Listener:
    mode = 0o666
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
        mode = stat.S_IMODE(found.st_mode)
        os.unlink(path)
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.bind(path)
        os.chmod(path, mode)
        return Listener([sock], (path, None), owns_path=True)
    except OSError:
        sock.close()
        raise


def _open_tcp(host: str, port: int, workers: int, *, dual: bool) -> list[Listener]:
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
            try:
                sockets = _bind_tcp(family, (name[0], port, *name[2:]), workers, dual=dual)
            except OSError as error:
                # The name resolves to IPv6 as well, but this machine has none: the other address will do.
                if (
                    error.errno in _NO_SUCH_FAMILY
                    and len(addresses) > 1
                    and (listeners or name is not addresses[-1][1])
                ):
                    continue
                raise
            port = sockets[0].getsockname()[1]
            listeners.append(Listener(sockets, (str(name[0]), port)))
    except BaseException:
        for listener in listeners:
            listener.close()
        raise
    return listeners


_NO_SUCH_FAMILY = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


def _bind_tcp(family: int, name: tuple[str | int, ...], workers: int, *, dual: bool) -> list[socket.socket]:
    if workers > 1 and name[1]:
        _check_free(family, name)
    sockets: list[socket.socket] = []
    try:
        for _ in range(workers):
            sock = socket.socket(family, socket.SOCK_STREAM)
            sockets.append(sock)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if workers > 1:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not dual)
            # Accepted sockets inherit it, which saves a system call for each. (Not SO_KEEPALIVE: Linux asks thousands
            # of clients in one moment, more than a network's queue holds, and gives up those it could not ask.)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if TCP_NOTSENT_LOWAT:
                sock.setsockopt(socket.IPPROTO_TCP, TCP_NOTSENT_LOWAT, MAX_UNSENT)
            sock.bind(name)
            name = (name[0], sock.getsockname()[1], *name[2:])  # port 0: the first socket chooses for all
    except BaseException:
        for sock in sockets:
            sock.close()
        raise
    return sockets


def _check_free(family: int, name: tuple[str | int, ...]) -> None:
    """Raises OSError when another server listens here. With SO_REUSEPORT the kernel lets both listen, if one user has
    both, and half of the other server's requests would come here. A socket without SO_REUSEPORT is refused."""
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(name)


def stop_handshakes(sock: socket.socket) -> None:
    """Has the kernel begin no new connection here, while those that have begun can still be accepted.

    Closing a listening socket resets the connections in its queue and those whose handshake is under way: requests of
    clients that believe they are connected. So before the last accepts the socket is bound to a network interface that
    does not exist (Linux 5.7). A new SYN then finds no socket and is refused at once, and a proxy tries its next
    server. A handshake that has begun is not checked against the interface again, unless it is one with a SYN cookie,
    under a flood. Over a Unix socket a handshake is one step, so none is under way.
    """
    if sys.platform != "linux" or sock.family == socket.AF_UNIX:
        return
    try:
        # To bind it again takes a privilege, and a sibling may have done so already.
        if sock.getsockopt(socket.SOL_SOCKET, SO_BINDTOIFINDEX) != NO_INTERFACE:
            sock.setsockopt(socket.SOL_SOCKET, SO_BINDTOIFINDEX, NO_INTERFACE)
    except OSError:  # an older kernel
        _drop_syns(sock)


def _drop_syns(sock: socket.socket) -> None:
    """The same with a socket filter: a new SYN gets no answer. Its client tries again a second later."""
    # Classic BPF over the TCP header: flags are byte 13. Load it, keep SYN and ACK, drop what is SYN alone.
    program = (
        (0x30, 0, 0, 13),  # ldb [13]
        (0x54, 0, 0, 0x12),  # and #SYN|ACK
        (0x15, 0, 1, 0x02),  # jeq #SYN: next, else one further
        (0x06, 0, 0, 0),  # ret #0: drop
        (0x06, 0, 0, 0xFFFFFFFF),  # ret #-1: keep whole
    )
    code = array.array("B", b"".join(struct.pack("HBBI", *instruction) for instruction in program))
    with contextlib.suppress(OSError):  # a sandbox without socket filters: the window stays as small as it is
        sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HP", len(program), code.buffer_info()[0]))
