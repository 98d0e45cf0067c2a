"""Each scenario of `python -m stress`, as short as it can be: they run, they count, and they can turn red."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.requirements import tool
from tests.test_architecture import circles, read

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT))

pytestmark = pytest.mark.timeout(330)  # what `stress` gives a run, and a little

SECONDS = {"soak": 5, "chaos": 8, "slow": 2, "limits": 6, "blocked": 6, "hostile": 1, "races": 4, "scale": 6,
           "drain": 4, "reloads": 4, "upgrades": 6, "counts": 2}  # fmt: skip


def stress(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "stress", *arguments],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300,
    )  # fmt: skip


@pytest.mark.parametrize("name", SECONDS)
def test_a_short_run_is_green(name):
    for program in importlib.import_module(f"stress.scenarios.{name}").TOOLS:
        tool(program)
    done = stress(name, f"--minutes={SECONDS[name] / 60}")
    assert done.returncode == 0, done.stdout
    assert f"verdict: {name} green" in done.stdout


MAY_IMPORT = {
    "kit": set(),
    "apps": set(),
    "scenarios": {"kit", "apps"},
    "bench": {"kit"},
    "__main__": {"kit", "scenarios", "bench"},
    "__init__": set(),
}
"""The parts of `stress`, and those that each may import beside itself."""


def test_scenarios_and_benchmarks_import_the_kit_and_not_each_other():
    graph = {}
    for path in (ROOT / "stress").rglob("*.py"):
        parts = path.relative_to(ROOT / "stress").with_suffix("").parts
        found = {".".join(name.split(".")[1:3]) for name in read(path).imports if name.startswith("stress.")}
        graph[".".join(parts)] = found
        assert {name.split(".")[0] for name in found} <= MAY_IMPORT[parts[0]] | {parts[0]}, path
    assert not circles({name: found & graph.keys() for name, found in graph.items()})


@pytest.mark.parametrize("command", ["drain", "fuzz", "autobahn", "bench", "reload", "profile", "ws", "database"])
def test_each_program_describes_itself_with_help(command):
    done = stress(command, "--help")
    assert done.returncode == 0, done.stdout
    assert done.stdout.startswith(f"usage: python -m stress {command} ")


def test_the_list_names_every_scenario():
    done = stress()
    assert done.returncode == 0
    assert [name for name in SECONDS if f"  {name} " not in done.stdout] == []


def test_what_is_no_scenario_is_refused():
    done = stress("soap")
    assert done.returncode == 2
    assert "'soap' is not a scenario" in done.stdout


def test_what_is_red_stays_red(capsys):
    from stress.kit.scenario import Report

    report = Report("example")
    report.check(True, "one thing")
    report.check(False, "another")
    assert not report.verdict()
    assert "verdict: example red" in capsys.readouterr().out
    assert not Report("nothing").verdict()


def test_a_request_that_is_cut_is_counted():
    """The scenarios would be worth nothing if they did not notice."""
    import asyncio
    import socket
    import threading

    from stress.kit.actions import get
    from stress.kit.clients import Tally, Traffic

    def serve() -> None:
        for answer in (
            b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhel",
            b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhallo",
        ):
            client, _ = listening.accept()
            with client:
                client.recv(1000)
                client.sendall(answer)

    async def ask(tally: Tally) -> None:
        traffic = Traffic(listening.getsockname(), {get: 1}, 1, tally)
        for _ in range(2):
            await get(traffic.clients[0])
        traffic.clients[0].close()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve)
        thread.start()
        tally = Tally()
        asyncio.run(ask(tally))
        thread.join()
    assert (tally.sent, tally.answered, len(tally.lost), len(tally.wrong)) == (2, 0, 1, 1)
    assert tally.balances
    assert "ended by the server" in str(tally.lost[0])
