"""Lines of the log in pieces that leave whole, so that worker processes do not write into each other's lines.

Owner: none; nothing is kept here.
"""

import os
import stat
from collections.abc import Iterator
from typing import Any

PIPE_BUF = 4096
"""Bytes that Linux has a pipe take whole; POSIX: at least 512."""


def is_pipe(stream: Any) -> bool:
    """Is it a pipe or a socket, which may take a part of what is written? A file takes all of it."""
    try:
        mode = os.fstat(stream.fileno()).st_mode
    except (OSError, ValueError, AttributeError):  # closed; not a file
        return True
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


def pieces(lines: list[str]) -> Iterator[str]:
    """The lines in pieces that a pipe takes whole, so that worker processes that share one do not write into each
    other's lines. A line that is longer is a piece of its own."""
    piece: list[str] = []
    size = 0
    for line in lines:
        if piece and size + len(line) > PIPE_BUF:
            yield "".join(piece)
            piece, size = [], 0
        piece.append(line)
        size += len(line)
    yield "".join(piece)
