"""Writes the table of libraries in docs/threads.md, from the last results of tests/system/test_libraries.py:

python3 tools/dev.py pytest -q tests/system/test_libraries.py                          on each interpreter
python3 tools/libraries_table.py
"""

import ast
import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DOCUMENT = ROOT / "docs" / "threads.md"
BEGIN, END = "<!-- libraries: tools/libraries_table.py -->\n", "<!-- end of libraries -->\n"
MODES = ("1 worker", "4 threads", "4 threads, copied", "2 processes")
LEGEND = """
Each is a program of a few lines in `tests/apps/libraries`, and "yes" means that it answers, logs and ends as under
uvicorn. "Copied" is the same program with an `asyncio.Lock` in its module. "-" is not run: the library has one of
something per process, and on an interpreter with the GIL threads are only used if they are asked for. A library that
threads cannot share even outside of a server has a note; with threads it is run where Python has the GIL.
"""


def races(name: str) -> str:
    """Why threads cannot share the library, if its program says so."""
    tree = ast.parse((ROOT / "tests" / "apps" / "libraries" / f"{name}.py").read_text())
    return next((ast.literal_eval(node.value) for node in tree.body if isinstance(node, ast.Assign)
                 and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "RACES"), "")  # fmt: skip


def titles() -> dict[str, str]:
    """The name of the library, from the docstring of its program, by the name of the program."""
    found = {}
    for path in sorted((ROOT / "tests" / "apps" / "libraries").glob("*.py")):
        found[path.stem] = (ast.get_docstring(ast.parse(path.read_text())) or path.stem).partition(":")[0]
    return dict(sorted(found.items(), key=lambda item: item[1].lower()))


def results() -> dict[str, dict[str, dict[str, dict[str, str]]]]:
    """Results by interpreter, program and mode."""
    files = sorted((ROOT / ".venv").glob("*-libraries/results.json"))
    return {file.parent.name.removesuffix("-libraries"): json.loads(file.read_text()) for file in files}


def row(name: str, title: str, known: dict[str, dict[str, dict[str, dict[str, str]]]]) -> str:
    notes, cells = [], []
    for mode in MODES:
        results_by_python = {}
        for python, programs in known.items():
            if (found := programs.get(name, {}).get(mode)) is not None:
                chosen = found["ran"] == "processes" and mode != "2 processes"
                results_by_python[python] = "**no**" if found["wrong"] else "in processes" if chosen else "yes"
        different = len(set(results_by_python.values())) > 1
        words = [f"{python}: {word}" if different else word for python, word in results_by_python.items()] or ["-"]
        cells.append(", ".join(words) if different else words[0])
    for python, programs in known.items():
        if "lacking" in programs.get(name, {}):
            notes.append(f"no wheel for {python}")
        elif programs.get(name, {}).get("uvicorn", {}).get("wrong"):
            notes.append(f"crashes {python}, under uvicorn too")
    if raced := races(name):
        notes.append(f"not shared by threads without the GIL: {raced}")
    return f"| {title} | {' | '.join(cells)} | {'; '.join(notes)} |"


def table() -> str:
    known = results()
    lines = [f"| Library | {' | '.join(MODES)} | |", "| --- |" + " --- |" * (len(MODES) + 1)]
    lines += [row(name, title, known) for name, title in titles().items()]
    return "\n".join(lines) + "\n"


def parts(text: str) -> tuple[str, str, str]:
    before, _, rest = text.partition(BEGIN)
    table, _, after = rest.partition(END)
    return before, table, after


def check(table: str) -> str | None:
    """The table may be of an earlier run, but it must name the programs that exist."""
    named = re.findall(r"^\| ([^|]+) \| (?!1 worker|---)", table, re.M)
    if named == list(titles().values()):
        return None
    return "docs/threads.md: the programs of tests/apps/libraries have changed: tools/libraries_table.py makes it again"


if __name__ == "__main__":
    before, current, after = parts(DOCUMENT.read_text())
    if "--check" in sys.argv:
        sys.exit(check(current))
    DOCUMENT.write_text(f"{before}{BEGIN}{LEGEND}\n{table()}\n{END}{after}")
