"""What every scenario is given: its settings, and a report that ends in a verdict.

A scenario is a module with `TOOLS`, the programs it needs, and `run(setting, report)`.
"""

import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

THREADS = not getattr(sys, "_is_gil_enabled", lambda: True)()
"""Are workers threads of one process with this interpreter?"""
MIB = 1 << 20


@dataclass(frozen=True)
class Setting:
    """How long a scenario runs, on how many workers."""

    minutes: float
    workers: int | None  # None: the scenario's own number
    folder: Path  # for temporary files, removed afterwards

    @property
    def seconds(self) -> float:
        return self.minutes * 60


@dataclass
class Report:
    """Prints what a scenario does and counts as it happens, and collects its checks for the verdict."""

    name: str
    red: list[str] = field(default_factory=list)
    green: int = 0
    began: float = field(default_factory=time.monotonic)

    def log(self, text: str) -> None:
        print(f"{self.name}: {time.monotonic() - self.began:6.1f} s  {text}", flush=True)

    def check(self, passed: bool, text: str) -> None:
        self.log(f"{'ok   ' if passed else 'RED  '} {text}")
        if passed:
            self.green += 1
        else:
            self.red.append(text)

    def verdict(self) -> bool:
        """Prints the verdict. True when checks were made and all have passed."""
        passed = bool(self.green and not self.red)
        took = time.monotonic() - self.began
        what = f"{self.green} checks passed" if passed else f"RED: {'; '.join(self.red) or 'nothing was checked'}"
        print(f"verdict: {self.name} {'green' if passed else 'red'} after {took:.0f} s on {interpreter()}: {what}")
        return passed


def interpreter() -> str:
    return f"{sys.version.split()[0]} {'free-threaded' if THREADS else 'with the GIL'}"


def percentile(values: Iterable[float], percent: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))] if ordered else float("inf")
