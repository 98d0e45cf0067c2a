"""Writes docs/options.md from `pounce.config.config`. With `--check` it only compares."""

import sys
from pathlib import Path

from pounce.cli import describe
from pounce.config.config import OPTIONS
from pounce.config.option import NOT_YET

PAGE = Path(__file__).resolve().parent.parent / "docs" / "options.md"
ABOUT = """\
# Options

<!-- Written by tools/options_table.py. -->

`pounce --help` prints the same list. Each option has one name in four places; a later place wins:

| Where | For example |
| --- | --- |
| `pounce.toml`, or `[tool.pounce]` in `pyproject.toml`, in the current folder | `log_level = "debug"` |
| Environment | `POUNCE_LOG_LEVEL=debug` |
| Command line | `--log-level debug` |
| `pounce.run`, `pounce.Config`, `pounce.testing.TestServer` | `log_level="debug"` |

Times are seconds and may be fractions. Sizes are bytes. `off` means no limit. A switch `--name` has a counterpart
`--no-name`. An invalid value ends the start with exit code 2 and one line that names the place it came from.

Options that uvicorn has and this version has not are accepted at the values at which they do nothing, and end the start
with "is not in this version of pounce" at any other: see [migrating from uvicorn](migrating-from-uvicorn.md).
"""


def table() -> str:
    lines, group = [], None
    for name, spec in OPTIONS.items():
        if spec.group == NOT_YET:
            continue
        if spec.group != group:
            group = spec.group
            lines += ["", f"## {group[0].upper()}{group[1:]}", "", "| Option | |", "| --- | --- |"]
        metavar = spec.kind.metavar if spec.kind.bare is None else f"[{spec.kind.metavar}]"
        value = f" {metavar}" if metavar else ""
        flags, text = ((words.replace("|", "\\|")) for words in (", ".join(spec.flags) + value, describe(name)))
        lines.append(f"| `{flags}` | {text} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    text = ABOUT + table()
    if "--check" in sys.argv:
        sys.exit(PAGE.read_text() != text and "docs/options.md is not current; run python tools/options_table.py")
    PAGE.write_text(text)
