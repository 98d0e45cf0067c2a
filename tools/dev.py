#!/usr/bin/env python3
"""Runs a command of this project in its development environment, which is made first where it is missing.

    python3 tools/dev.py pytest -q
    POUNCE_PYTHON=/usr/bin/python3.14 python3 tools/dev.py pounce examples.hello:app

One environment per kind of interpreter, below .venv/. It is made again when pyproject.toml or the interpreter
has changed. Runs on any Python >= 3.11, with nothing but its standard library.
"""

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import interpreter
from interpreter import fail, say

ROOT = Path(__file__).resolve().parent.parent


def environment(groups: list[str]) -> Path:
    """The environment for the interpreter that `interpreter.find` gives, with these dependency groups."""
    python = interpreter.find()
    about = interpreter.describe(python)
    assert about is not None, "find has just tried it"
    major, minor, gil = about
    place = ROOT / ".venv" / f"{major}.{minor}{'' if gil else 't'}"
    described = f"{python} {' '.join(groups)}\n".encode() + (ROOT / "pyproject.toml").read_bytes()
    wanted, mark = hashlib.sha256(described).hexdigest(), place / "made-from"
    with contextlib.suppress(OSError):
        if mark.read_text() == wanted:
            return place
    place.parent.mkdir(exist_ok=True)
    with interpreter.locked(place.parent / "lock"):
        make(python, place, groups)
        mark.write_text(wanted)
    return place


def make(python: Path, place: Path, groups: list[str]) -> None:
    say(f"making {place.relative_to(ROOT)} with {python}")
    try:
        uv = str(interpreter.uv())
    except interpreter.Failed as error:
        fail(str(error))
    shutil.rmtree(place, ignore_errors=True)
    install = [uv, "pip", "install", "--quiet", "--python", str(place / "bin" / "python")]
    run([uv, "venv", "--quiet", "--python", str(python), str(place)])
    run([*install, "--editable", str(ROOT)])
    # Wheels only: where a package has none for this interpreter, building it would need more than a C compiler.
    run([*install, "--only-binary", ":all:", *(word for group in groups for word in ("--group", group))])


def run(command: list[str]) -> None:
    if subprocess.run(command, cwd=ROOT).returncode:
        fail(f"failed: {' '.join(command)}")


def main() -> None:
    arguments = sys.argv[1:]
    groups = ["dev"]
    while arguments[:1] == ["--group"]:
        groups.append(arguments[1])
        arguments = arguments[2:]
    if not arguments:
        fail("which command? For example: python3 tools/dev.py pytest -q")
    place = environment(groups)
    os.environ["VIRTUAL_ENV"] = str(place)
    os.environ["PATH"] = f"{place / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}"
    program = shutil.which(arguments[0])
    if program is None:
        fail(f"{arguments[0]}: no such command in {place.relative_to(ROOT)}")
    os.execv(program, arguments)


if __name__ == "__main__":
    main()
