"""What a fresh checkout needs to run the server, and what it does not."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def checkout(tmp_path):
    for name in ("pounce", "tools", "examples", "pyproject.toml", "README.md", "LICENSE"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    return tmp_path


def test_running_the_server_installs_the_server_and_no_more(checkout):
    command = [sys.executable, "tools/dev.py", "pounce", "--version"]
    env = {**os.environ, "POUNCE_PYTHON": sys.executable}
    done = subprocess.run(command, cwd=checkout, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    (environment,) = checkout.glob(".venv/*-run")
    packages = {path.name.partition("-")[0] for path in environment.glob("lib/python3*/site-packages/*.dist-info")}
    assert packages == {"h11", "wsproto", "pounce_asgi"}
