"""The programs below tools/: what they install, which interpreter they find, what they draw."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def checkout(tmp_path):
    for name in ("pounce", "tools", "examples", "pyproject.toml", "README.md", "LICENSE"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    return tmp_path


@pytest.mark.timeout(300)  # it makes an environment
def test_running_the_server_installs_the_server_and_no_more(checkout):
    command = [sys.executable, "tools/dev.py", "pounce", "--version"]
    env = {**os.environ, "POUNCE_PYTHON": sys.executable}
    done = subprocess.run(command, cwd=checkout, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    (environment,) = checkout.glob(".venv/*-run")
    packages = {path.name.partition("-")[0] for path in environment.glob("lib/python3*/site-packages/*.dist-info")}
    assert packages == {"h11", "wsproto", "pounce_asgi"}


WORKS = "#!/bin/sh\necho {version} 0 /somewhere/{name}\n"
FAILS = "#!/bin/sh\nexit 1\n"


@pytest.mark.parametrize(
    ("programs", "found"),
    [
        ({"python3.14t": WORKS, "python3.15t": WORKS}, "/somewhere/python3.14t"),
        ({"python3.15t": WORKS}, "/somewhere/python3.15t"),
        ({"python3.14t": FAILS, "python3.15t": WORKS}, "/somewhere/python3.15t"),
    ],
    ids=["both", "only-3.15t", "3.14t-is-broken"],
)
def test_free_threaded_interpreters_on_path_are_tried_3_14t_first(tmp_path, programs, found):
    for name, text in programs.items():
        version = name.removeprefix("python").removesuffix("t").replace(".", " ")
        program = tmp_path / name
        program.write_text(text.format(version=version, name=name))
        program.chmod(0o755)
    script = "import interpreter; print(interpreter.find().path)"
    env = {"PATH": str(tmp_path), "POUNCE_CACHE": str(tmp_path / "cache"), "PYTHONPATH": str(ROOT / "tools")}
    done = subprocess.run(
        [sys.executable, "-c", script], env=env, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == found
    assert ("python3.14t does not work" in done.stderr) == (programs.get("python3.14t") == FAILS)


def figures(**servers):
    return {name: {"cpu_us": {"median": value, "min": value, "max": value}} for name, value in servers.items()}


def chart(tmp_path, workloads):
    run = {
        "python": "CPython 3.14.0 <with the GIL>", "machine": "a machine, 2 CPUs", "date": "2026-11-28 06:00:00 +0000",
        "commit": "0123456789ab", "versions": {"pounce": "0.1.0", "granian": "2.8"},
        "settings": {"seconds": 2, "runs": 3, "threads": 1}, "workloads": workloads,
    }  # fmt: skip
    (tmp_path / "run.json").write_text(json.dumps(run))
    command = [sys.executable, ROOT / "tools" / "bench_chart.py", tmp_path / "run.json", "-o", tmp_path / "bench.svg"]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_the_chart_has_a_bar_for_each_server_and_says_what_was_measured(tmp_path):
    done = chart(tmp_path, {"hello": {"servers": figures(granian=20.0, pounce=10.0, floor=5.0)}})
    assert done.returncode == 0, done.stderr
    drawn = ElementTree.parse(tmp_path / "bench.svg")
    bars = drawn.findall("{*}rect")
    words = " ".join("".join(each.itertext()) for each in drawn.findall("{*}text"))
    assert [bar.get("class") for bar in bars] == ["subject", "peer"]
    assert float(bars[1].get("width")) == pytest.approx(2 * float(bars[0].get("width")))
    for part in ("microseconds", "3.14.0 <with the GIL>", "a machine", "2026-11-28", "pounce 0.1.0", "10.0", "20.0"):
        assert part in words


def test_a_file_without_a_workload_of_the_chart_is_an_error_of_one_line(tmp_path):
    done = chart(tmp_path, {"idle-10k": {"servers": {}}})
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "run.json: it has none of the workloads hello" in done.stderr
