"""What README.md says can be checked."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_table_of_options_is_that_of_the_command_line():
    done = subprocess.run(
        [sys.executable, ROOT / "tools" / "options_table.py", "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_what_it_points_at_is_there():
    text = (ROOT / "README.md").read_text()
    for path in re.findall(r"\]\(([^)#]+)\)", text):
        assert (ROOT / path).exists(), path
    for name in re.findall(r"`((?:test_|\w+/)[\w/]+\.py)", text):
        known = any((ROOT / folder / name).exists() for folder in ("", "pounce"))
        assert known or any((ROOT / "tests").rglob(name)), name
