"""The files of examples/deploy as tests use them: only addresses and paths are replaced."""

import shlex
from collections.abc import Sequence
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "examples" / "deploy"


type Change = tuple[str, str]
"""What is replaced, and by what."""


def changed(name: str, changes: Sequence[Change] = (), moves: Sequence[Change] = ()) -> str:
    """A file with `changes`, in this order, each of which has to be possible, and then with `moves`: the addresses and
    paths that are others here."""
    text = (FOLDER / name).read_text()
    for old, new in changes:
        assert old in text, (name, old)
        text = text.replace(old, new)
    for old, new in moves:
        text = text.replace(old, new)
    return text


def arguments(name: str, port: int | None = None, app: str = "mirror:app") -> list[str]:
    """Those of the `pounce` command in a file's comments, for another application and at another port."""
    for line in (FOLDER / name).read_text().splitlines():
        words = line.strip("# ")
        if words.startswith("pounce main:app "):
            assert "--port 8000" in words, line
            return [app, *shlex.split(words.replace("--port 8000", f"--port {port or 0}"))[2:]]
    raise AssertionError(f"{name} has no command")
