"""How many CPUs this process may use: what `--threads auto` means."""

import os


def usable_cpus(cgroup: str | os.PathLike[str] = "/sys/fs/cgroup", affinity: int | None = None) -> int:
    """The smaller of the CPU affinity and the container's CPU quota, rounded up; at least 1."""
    count = affinity or os.process_cpu_count() or 1
    quota = _quota(cgroup)
    return max(1, min(count, -int(-quota // 1))) if quota else count


def _quota(cgroup: str | os.PathLike[str]) -> float | None:
    """CPUs that the cgroup grants, None for no bound. Version 2, then version 1 of the interface."""
    try:
        quota, period = _read(cgroup, "cpu.max").split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError):
        pass
    try:
        quota = _read(cgroup, "cpu/cpu.cfs_quota_us")
        period = _read(cgroup, "cpu/cpu.cfs_period_us")
        return int(quota) / int(period) if int(quota) > 0 else None
    except (OSError, ValueError):
        return None


def _read(cgroup: str | os.PathLike[str], name: str) -> str:
    with open(os.path.join(cgroup, name), encoding="ascii") as file:
        return file.read()
