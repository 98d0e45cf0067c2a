"""Medians, ratios and their spread, as a table and as JSON.

A ratio is computed within each round, in which every server was measured once. The median of these ratios is shown with
the lowest and the highest, so that slow changes of the machine (its load, the clock of the CPU) cancel out.
"""

from dataclasses import dataclass, field
from statistics import median
from typing import Any

from stress.bench.runs import Column, Figures, Workload

SUBJECT = "pounce"


@dataclass(frozen=True)
class Spread:
    middle: float
    low: float
    high: float

    @classmethod
    def of(cls, values: list[float]) -> "Spread":
        return cls(median(values), min(values), max(values))

    def text(self, decimals: int) -> str:
        if self.low == self.high:
            return f"{self.middle:.{decimals}f}"
        return f"{self.middle:.{decimals}f} ({self.low:.{decimals}f}-{self.high:.{decimals}f})"

    def json(self) -> dict[str, float]:
        return {"median": self.middle, "min": self.low, "max": self.high}


@dataclass
class Results:
    """What was measured with one workload."""

    workload: Workload
    where: str  # which CPUs
    servers: list[str]
    rounds: dict[str, list[Figures]] = field(default_factory=dict)  # by server; a round has the same index in each list
    failures: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def fail(self, server: str, why: str) -> None:
        """Removes the server from the results: the rounds before could not be compared with those of the others."""
        self.rounds.pop(server, None)
        self.failures[server] = why

    def ratio(self, server: str) -> Spread | None:
        """Pounce's figure divided by this server's."""
        subject, other = self.rounds.get(SUBJECT), self.rounds.get(server)
        key = self.workload.kind.compared
        if not subject or not other or server == SUBJECT:
            return None
        pairs = [(a[key], b[key]) for a, b in zip(subject, other, strict=True)]
        return Spread.of([a / b for a, b in pairs]) if all(b > 0 for _, b in pairs) else None

    def maximum(self, key: str) -> float:
        """The highest value of a figure, of any server in any round; 0 where there is none."""
        return max((figures.get(key, 0) for rounds in self.rounds.values() for figures in rounds), default=0)

    def spread(self, server: str, key: str) -> Spread | None:
        values = [figures[key] for figures in self.rounds.get(server, ()) if key in figures]
        return Spread.of(values) if values else None

    def _cell(self, server: str, key: str, column: Column) -> str:
        spread = self.spread(server, key)
        if spread is None:
            return "-"
        if key == self.workload.kind.compared:
            return spread.text(column.decimals)
        return f"{spread.middle:.{column.decimals}f}"

    def table(self) -> str:
        kind = self.workload.kind
        what = kind.columns[kind.compared].title
        heads = ["", *(column.title for column in kind.columns.values()), f"{what}: {SUBJECT} / this"]
        rows = [heads]
        for server in self.servers:
            ratio = self.ratio(server)
            cells = [self._cell(server, key, column) for key, column in kind.columns.items()]
            rows.append([server, *cells, ratio.text(2) if ratio else ""])
        if SUBJECT not in self.rounds:
            rows = [row[:-1] for row in rows]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [f"{self.workload.name}: {self.workload.about} [{self.where}]"]
        for row in rows:
            cells = [
                row[0].ljust(widths[0]),
                *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)),
            ]
            lines.append("  " + "  ".join(cells).rstrip())
        lines += [f"  {server}: {why}" for server, why in self.failures.items()]
        lines += [f"  {note}" for note in self.notes]
        return "\n".join(lines)

    def json(self) -> dict[str, Any]:
        servers: dict[str, Any] = {}
        for server, rounds in self.rounds.items():
            ratio = self.ratio(server)
            spreads = {key: self.spread(server, key) for key in self.workload.kind.columns}
            servers[server] = {
                **{key: spread.json() if spread else None for key, spread in spreads.items()},
                "runs": rounds,
                "ratio": ratio.json() if ratio else None,
            }
        return {
            "about": self.workload.about,
            "cpus": self.where,
            "compared": self.workload.kind.compared,
            "servers": servers,
            "failures": self.failures,
            "notes": self.notes,
        }


@dataclass(frozen=True)
class Requirement:
    """The highest ratio of Pounce's figure to a server's, at one workload."""

    workload: str
    server: str
    maximum: float

    @classmethod
    def parse(cls, text: str) -> "Requirement":
        """[WORKLOAD:]SERVER=RATIO. Raises ValueError."""
        name, _, ratio = text.rpartition("=")
        workload, _, server = name.rpartition(":")
        return cls(workload or "hello", server, float(ratio))

    def judge(self, results: dict[str, Results]) -> tuple[bool, str]:
        """Is it met, and a line that says so. What was not measured is not met."""
        what = f"{self.workload}: {SUBJECT} at most {self.maximum:g} x {self.server}"
        ratio = results[self.workload].ratio(self.server) if self.workload in results else None
        if ratio is None:
            return False, f"FAILED  {what}: not measured"
        return (
            ratio.middle <= self.maximum,
            f"{'ok     ' if ratio.middle <= self.maximum else 'FAILED '} {what}: {ratio.text(2)}",
        )
