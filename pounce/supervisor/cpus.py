"""How many CPUs this process may use: what `--threads auto` means."""

import os
from typing import NamedTuple

from pounce.supervisor import cgroup


class CPUs(NamedTuple):
    present: int
    """In the machine."""
    allowed: int
    """By the CPU affinity."""
    quota: float | None
    """Of the container or the service; None: no bound."""

    @property
    def usable(self) -> int:
        """The smaller of affinity and quota, rounded up; at least 1."""
        return max(1, min(self.allowed, -int(-self.quota // 1))) if self.quota else self.allowed

    def describe(self) -> str:
        """Why there are so many."""
        if self.usable < self.allowed:
            return f"the container's quota is {self.quota:g} of {self.allowed} CPUs"
        if self.allowed < self.present:
            return f"this process may use {self.allowed} of {self.present} CPUs"
        return "one for each CPU"


def find(root: cgroup.Path = cgroup.ROOT) -> CPUs:
    """`root`: where the control groups are."""
    return CPUs(os.cpu_count() or 1, os.process_cpu_count() or 1, cgroup.cpu_quota(root))
