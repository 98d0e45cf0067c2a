#!/usr/bin/env python3
"""Draws the chart of the README from the figures of `python -m stress bench --json FILE`.

    python3 tools/bench_chart.py FILE ... [-o docs/bench.svg]

One panel for each file, which is one interpreter; in it one group of bars for each workload, one bar for each server,
and the floor as a dashed line. A bar is the server's CPU time per request in microseconds. The SVG has no scripts and
no fonts of its own, and follows the reader's light or dark colours.
"""

import argparse
import json
import sys
from html import escape
from pathlib import Path
from typing import Any

WORKLOADS = {
    "hello": "hello: GET, 13 bytes",
    "starlette": "JSON from Starlette",
    "echo-1k": "POST of 1 KiB, sent back",
    "stream-64k": "64 KiB streamed in 16 parts",
}
REFERENCES = ("floor", "nginx")  # no ASGI servers: no bars
LIBRARIES = ("uvloop", "httptools", "starlette")  # whose versions matter too
SUBJECT = "pounce"
BUSY = 10  # percent of other programs, above which the chart says so
NAMES = {"uvicorn": "uvicorn (uvloop)", "uvicorn-h11": "uvicorn (h11)"}  # what the bars of two are called
KEY = "cpu_us"  # of a closed workload: microseconds of CPU per request

# Lengths in pixels.
WIDTH, MARGIN, COLUMNS = 800, 16, 2
LABEL, VALUE = 118, 44  # room for the names of servers, and for figures
ROW, BAR, HEAD, GAP = 19, 13, 24, 14  # heights: of a row, its bar, a heading, the space under a group
STYLE = """
    text { font: 12px system-ui, sans-serif; fill: #1f2328 }
    .title { font-size: 16px; font-weight: 600 } .head { font-weight: 600 } .small { font-size: 11px; fill: #59636e }
    .value, .name { dominant-baseline: central } .name { text-anchor: end }
    .subject { fill: #0969da } .peer { fill: #a8b1bb } .floor { stroke: #59636e; stroke-dasharray: 3 3 }
    .bold { font-weight: 600 }
    @media (prefers-color-scheme: dark) {
        text { fill: #e6edf3 } .small { fill: #9198a1 }
        .subject { fill: #4493f8 } .peer { fill: #545d68 } .floor { stroke: #9198a1 }
    }
"""


def median(run: dict[str, Any], workload: str, server: str) -> float | None:
    figures = run["workloads"][workload]["servers"].get(server)
    return figures[KEY]["median"] if figures and figures[KEY] else None


def others(run: dict[str, Any]) -> float:
    """The highest share, in percent, that other programs have taken of the server's CPU; 0 where that is unknown."""
    servers = [figures for workload in run["workloads"].values() for figures in workload["servers"].values()]
    return max((figures["others"]["max"] for figures in servers if figures.get("others")), default=0)


def text(x: float, y: float, words: str, kind: str) -> str:
    return f'<text x="{x:.0f}" y="{y:.1f}" class="{kind}">{escape(words)}</text>'


def rows(run: dict[str, Any], workload: str) -> list[tuple[str, float]]:
    """Servers and their figures, this project's first, then the cheapest first."""
    names = [name for name in run["workloads"][workload]["servers"] if name not in REFERENCES]
    found = [(name, figure) for name in names if (figure := median(run, workload, name)) is not None]
    return sorted(found, key=lambda row: (row[0] != SUBJECT, row[1]))


def group(run: dict[str, Any], workload: str, x: float, y: float, width: float) -> list[str]:
    """The bars of one workload. They start at `x + LABEL`; the longest ends where its figure still fits."""
    found = rows(run, workload)
    longest = max((figure for _, figure in found), default=1.0)
    scale = (width - LABEL - VALUE) / longest
    parts = [text(x, y + 14, WORKLOADS[workload], "head")]
    for number, (name, figure) in enumerate(found):
        top = y + HEAD + number * ROW
        middle, subject = top + BAR / 2, name == SUBJECT
        parts += [
            text(x + LABEL - 6, middle, NAMES.get(name, name), "name bold" if subject else "name"),
            f'<rect x="{x + LABEL:.0f}" y="{top:.1f}" width="{figure * scale:.1f}" height="{BAR}" rx="2" '
            f'class="{"subject" if subject else "peer"}"/>',
            text(x + LABEL + figure * scale + 5, middle, f"{figure:.1f}", "value bold" if subject else "value"),
        ]
    if (floor := median(run, workload, "floor")) is not None and found:
        at, bottom = x + LABEL + floor * scale, y + HEAD + len(found) * ROW - 2
        parts.append(f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{y + HEAD - 4}" y2="{bottom}" class="floor"/>')
    return parts


def panel(run: dict[str, Any], y: float) -> tuple[list[str], float]:
    """The groups of one interpreter, and where the next panel may begin."""
    settings, present = run["settings"], [name for name in WORKLOADS if name in run["workloads"]]
    workers = f"{settings['threads']} worker{'s' if settings['threads'] > 1 else ''}"
    measured = {name for workload in present for name, _ in rows(run, workload)}
    versions = {name.partition("-h11")[0]: version for name, version in run["versions"].items() if name in measured}
    versions |= {name: run["versions"][name] for name in LIBRARIES if name in run["versions"]}
    parts = [
        text(MARGIN, y + 14, run["python"], "title"),
        text(MARGIN, y + 32, f"{run['machine']}; {run['date'][:10]}; commit {run['commit']}; {workers}, medians of "
                             f"{settings['runs']} runs of {settings['seconds']:g} s", "small"),
        text(MARGIN, y + 47, ", ".join(f"{name} {version}" for name, version in versions.items()), "small"),
    ]  # fmt: skip
    if (share := others(run)) > BUSY:
        parts.append(text(MARGIN, y + 62, f"other programs took up to {share:.0f} % of the server's CPU", "small"))
        y += 15
    y += 62
    width = (WIDTH - MARGIN * (COLUMNS + 1)) / COLUMNS
    for first in range(0, len(present), COLUMNS):
        line = present[first : first + COLUMNS]
        for column, workload in enumerate(line):
            parts += group(run, workload, MARGIN + column * (width + MARGIN), y, width)
        y += HEAD + max(len(rows(run, workload)) for workload in line) * ROW + GAP
    return parts, y + GAP


def draw(runs: list[dict[str, Any]]) -> str:
    title = "CPU time of the server per request, in microseconds: less is better"
    parts, y = [text(MARGIN, 26, title, "title")], 46.0
    for run in runs:
        drawn, y = panel(run, y)
        parts += drawn
    note = (
        "Each group has a scale of its own. Dashed: the floor, a selectors loop that answers fixed bytes without "
        "reading the request."
    )
    parts.append(text(MARGIN, y, note, "small"))
    height = y + MARGIN
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height:.0f}" '
        f'viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{escape(title)}">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n" + "\n".join(parts) + "\n</svg>\n"
    )


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="written by `stress bench --json`")
    parser.add_argument("-o", "--output", type=Path, default=Path("docs/bench.svg"), metavar="FILE")
    options = parser.parse_args()
    runs = []
    for path in options.files:
        try:
            run = json.loads(path.read_text())
            if not WORKLOADS.keys() & run["workloads"].keys():
                raise ValueError(f"it has none of the workloads {', '.join(WORKLOADS)}")
        except (OSError, ValueError, LookupError, TypeError) as error:
            print(f"bench_chart: {path}: {error}", file=sys.stderr)
            return 2
        runs.append(run)
    options.output.write_text(draw(runs))
    return 0


if __name__ == "__main__":
    sys.exit(main())
