"""Who holds an address that is taken: the process that has a socket bound there, as far as Linux' /proc tells.

Asked only when a start has failed, and bounded in time: a machine may have a hundred thousand descriptors, and those of
other users are closed to us.
"""

import contextlib
import os
import time
from collections.abc import Iterator

TIMEOUT = 0.3
"""Seconds."""
LONGEST_NAME = 60


def user_of_port(port: int) -> str:
    """`process 123 (uvicorn)`; empty if that cannot be told."""
    return _process({inode for name in ("tcp", "tcp6") for inode in _bound_to(name, port)})


def user_of_path(path: str) -> str:
    """The same for a Unix socket."""
    rows = (line.split(maxsplit=7) for line in _lines("/proc/net/unix"))
    return _process({row[6] for row in rows if len(row) > 7 and row[7].rstrip("\n") == path})


def _bound_to(name: str, port: int) -> Iterator[str]:
    for line in _lines(f"/proc/net/{name}"):
        row = line.split()
        with contextlib.suppress(ValueError, IndexError):  # the headline
            if int(row[1].rpartition(":")[2], 16) == port and row[3] in ("07", "0A"):  # bound or listening
                yield row[9]


def _lines(path: str) -> list[str]:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.readlines()
    except OSError:
        return []


def _process(inodes: set[str]) -> str:
    wanted = {f"socket:[{inode}]" for inode in inodes - {"0"}}
    end = time.monotonic() + TIMEOUT
    with contextlib.suppress(OSError):
        # Young processes first: one that has taken the port was mostly started a short while ago.
        for process in sorted(filter(str.isdecimal, os.listdir("/proc") if wanted else ()), key=int, reverse=True):
            with contextlib.suppress(OSError):  # another user's, or gone
                folder = f"/proc/{process}/fd"
                for fd in os.listdir(folder):
                    if time.monotonic() > end:
                        return ""
                    with contextlib.suppress(OSError):
                        if os.readlink(f"{folder}/{fd}") in wanted:
                            return f"process {process} ({_name(process)})"
    return ""


def _name(process: str) -> str:
    """Its program; for Python what it runs. No further arguments: there may be a password among them."""
    with open(f"/proc/{process}/cmdline", "rb") as file:
        words = file.read(1000).decode(errors="replace").strip("\0").split("\0")
    name = os.path.basename(words[0])
    if name.startswith("python"):
        script = next((word for word in words[1:] if not word.startswith("-")), "")
        name = os.path.basename(script) or name
    name = "".join(letter if letter.isprintable() else "?" for letter in name)
    return name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 3] + "..."
