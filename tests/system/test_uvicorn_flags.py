"""The flags of the uvicorn that the libraries' environment has are those that the documentation knows."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_docs import UVICORN_FLAGS

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.timeout(1800)  # the first one makes the environment
def test_every_flag_of_the_installed_uvicorn_is_known():
    command = [sys.executable, ROOT / "tools" / "dev.py", "--libraries", "python", "-m", "uvicorn", "--help"]
    env = {**os.environ, "POUNCE_PYTHON": sys.executable, "COLUMNS": "200"}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    if "No module named uvicorn" in done.stderr:
        pytest.skip("needs uvicorn, which tools/dev.py could not install")
    flags = set(re.findall(r"^  (--[\w-]+)", done.stdout, re.MULTILINE))
    assert flags
    assert flags <= set(UVICORN_FLAGS)
