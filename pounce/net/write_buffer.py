"""What a stream holds for its client because the kernel has not taken it yet: bytes and parts of files, in order.

A deque and two functions, and no class: a stream that is never held up has none.

Owner: the stream.
"""

import socket
from collections import deque

from pounce.net.file_part import BURST, FilePart

type Part = memoryview | bytearray | FilePart

JOIN_BELOW = 8192
"""Copying this much into one string costs less than a system call with two buffers."""
SMALL = 512
"""Parts of fewer bytes are joined: an object for every few bytes would cost many times the bytes."""
MAX_BUFFERS = 64  # per system call; the kernel's own bound is IOV_MAX, 1024


def append(buffer: deque[Part], part: bytes | Part) -> None:
    if isinstance(part, FilePart) or len(part) >= SMALL:
        buffer.append(memoryview(part) if isinstance(part, bytes) else part)
        return
    last = buffer[-1] if buffer else None
    if isinstance(last, bytearray) and len(last) < JOIN_BELOW:
        last += part
    else:
        buffer.append(bytearray(part))


def send_bytes(sock: socket.socket, buffer: deque[Part]) -> int:
    """Sends what is in front of the next part of a file. How many bytes the kernel has taken. Raises OSError."""
    parts: list[memoryview | bytearray] = []
    size = 0
    for part in buffer:
        if isinstance(part, FilePart) or len(parts) == MAX_BUFFERS or size >= BURST:
            break
        parts.append(part)
        size += len(part)
    sent = sock.sendmsg(parts)
    left = sent
    for part in parts:
        buffer.popleft()
        if left < len(part):
            buffer.appendleft(part[left:])
            break
        left -= len(part)
    return sent
