"""How many CPUs this process may use: what `--threads auto` means."""

import os
from pathlib import Path


def usable_cpus(cgroup: Path = Path("/sys/fs/cgroup"), affinity: int | None = None) -> int:
    """The smaller of the CPU affinity and the container's CPU quota, rounded up; at least 1."""
    count = affinity or os.process_cpu_count() or 1
    quota = _quota(cgroup)
    return max(1, min(count, -int(-quota // 1))) if quota else count


def _quota(cgroup: Path) -> float | None:
    """CPUs that the cgroup grants, None for no bound. Version 2, then version 1 of the interface."""
    try:
        quota, period = (cgroup / "cpu.max").read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError):
        pass
    try:
        quota = (cgroup / "cpu" / "cpu.cfs_quota_us").read_text()
        period = (cgroup / "cpu" / "cpu.cfs_period_us").read_text()
        return int(quota) / int(period) if int(quota) > 0 else None
    except (OSError, ValueError):
        return None
