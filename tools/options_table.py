"""Writes the table of options in README.md, made from `pounce.config.config`."""

import sys
from pathlib import Path

from pounce.cli import describe
from pounce.config.config import NOT_YET, OPTIONS

README = Path(__file__).resolve().parent.parent / "README.md"
BEGIN, END = "<!-- options: tools/options_table.py -->\n", "<!-- end of options -->\n"


def table() -> str:
    lines, group = [], None
    for name, spec in OPTIONS.items():
        if spec.group == NOT_YET:
            continue
        if spec.group != group:
            group = spec.group
            lines += ["", f"**{group[0].upper()}{group[1:]}**", "", "| Option | |", "| --- | --- |"]
        value = f" {spec.kind.metavar}" if spec.kind.metavar else ""
        flags, text = ((words.replace("|", "\\|")) for words in (", ".join(spec.flags) + value, describe(name)))
        lines.append(f"| `{flags}` | {text} |")
    return "\n".join(lines[1:]) + "\n"


def renewed(text: str) -> str:
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


if __name__ == "__main__":
    text = README.read_text()
    if "--check" in sys.argv:
        sys.exit(text != renewed(text) and "README.md: the options have changed; run python tools/options_table.py")
    README.write_text(renewed(text))
