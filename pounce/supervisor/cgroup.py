"""What the kernel grants this process: the bounds of its control group, which is a container's or a service's.

A group may have several groups above it, each with a bound, and the smallest holds. In a container the file system may
show only its own group, as if it were the uppermost.

Owner: none; nothing here is kept.
"""

import os
from collections.abc import Iterator

ROOT, OWN = "/sys/fs/cgroup", "/proc/self/cgroup"
UNBOUNDED = 1 << 60
"""Bytes from which on a bound of version 1 is none: without one, it is the largest multiple of a page in 63 bits."""

type Path = str | os.PathLike[str]


def cpu_quota(root: Path = ROOT, own: Path = OWN) -> float | None:
    """CPUs; None: no bound."""
    found: list[float] = []
    for folder in _folders(root, own, ""):
        quota, _, period = _read(folder, "cpu.max").partition(" ")
        _add(found, quota, period)
    for folder in _folders(root, own, "cpu"):
        _add(found, _read(folder, "cpu.cfs_quota_us"), _read(folder, "cpu.cfs_period_us"))
    return min(found, default=None)


def _add(found: list[float], quota: str, period: str) -> None:
    if quota.strip().isdecimal() and period.strip().isdecimal() and int(period):
        found.append(int(quota) / int(period))


def memory_limit(root: Path = ROOT, own: Path = OWN) -> int | None:
    """Bytes; None: no bound."""
    texts = [_read(folder, "memory.max") for folder in _folders(root, own, "")]
    texts += [_read(folder, "memory.limit_in_bytes") for folder in _folders(root, own, "memory")]
    return min((int(text) for text in texts if text.strip().isdecimal() and int(text) < UNBOUNDED), default=None)


def _folders(root: Path, own: Path, controller: str) -> Iterator[str]:
    """This process's group, where it can be seen, and those above it. `controller`: of version 1 of the interface; the
    empty text: version 2."""
    top = os.path.join(root, controller) if controller else os.fspath(root)
    for line in _read(own, "").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controller in controllers.split(","):
            group = path.strip("/")
            while group:
                yield os.path.join(top, group)
                group = os.path.dirname(group)
    yield top


def _read(folder: Path, name: str) -> str:
    """Empty where there is no such file."""
    try:
        with open(os.path.join(folder, name) if name else folder, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
