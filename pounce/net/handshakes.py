"""How a listening socket is closed to new clients while those that have come can still be accepted.

Owner: none; any worker may ask for it, and several do.
"""

import array
import contextlib
import socket
import struct
import sys

SO_ATTACH_FILTER, SO_BINDTOIFINDEX = 26, 62
"""From Linux's asm-generic/socket.h; the standard library does not name them."""

NO_INTERFACE = (1 << 31) - 1
"""The index of no network interface: it is the largest there can be, and they are counted from 1."""


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
