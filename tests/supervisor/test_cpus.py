"""What `--threads auto` finds, and what the log says of it and of the memory."""

import os

import pytest

from pounce.config.config import Config
from pounce.supervisor.announcements import memory_problem
from pounce.supervisor.cgroup import cpu_quota, memory_limit
from pounce.supervisor.cpus import CPUs, find
from tests.support.server import Running


def write(folder, files):
    for name, text in files.items():
        (folder / name).parent.mkdir(exist_ok=True, parents=True)
        (folder / name).write_text(text)


@pytest.mark.parametrize(
    ("files", "affinity", "wanted"),
    [
        ({}, 4, 4),
        ({"cpu.max": "max 100000"}, 4, 4),
        ({"cpu.max": "200000 100000"}, 4, 2),
        ({"cpu.max": "150000 100000"}, 4, 2),
        ({"cpu.max": "50000 100000"}, 4, 1),
        ({"cpu.max": "900000 100000"}, 4, 4),
        ({"cpu.max": "nonsense"}, 4, 4),
        ({"cpu/cpu.cfs_quota_us": "200000", "cpu/cpu.cfs_period_us": "100000"}, 4, 2),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 4, 4),
    ],
)
def test_the_containers_quota_counts(tmp_path, files, affinity, wanted):
    write(tmp_path, files)
    assert CPUs(8, affinity, cpu_quota(tmp_path)).usable == wanted


def test_there_is_at_least_one(tmp_path):
    assert find(tmp_path).usable == os.process_cpu_count()
    assert CPUs(8, 4, 0.1).usable == 1


SERVICE = "12:memory:/elsewhere\n1:cpu,cpuacct:/system.slice/a.service\n0::/system.slice/shop.service\n"


@pytest.mark.parametrize(
    ("files", "cpus", "memory"),
    [
        ({"system.slice/shop.service/cpu.max": "150000 100000", "system.slice/cpu.max": "max 100000"}, 1.5, None),
        ({"system.slice/shop.service/cpu.max": "150000 100000", "system.slice/cpu.max": "50000 100000"}, 0.5, None),
        ({"system.slice/other.service/cpu.max": "150000 100000"}, None, None),
        ({"system.slice/shop.service/memory.max": "1000000\n", "system.slice/memory.max": "max\n"}, None, 1000000),
        ({"system.slice/shop.service/memory.max": "3000000\n", "system.slice/memory.max": "2000000\n"}, None, 2000000),
        ({f"cpu/system.slice/a.service/cpu.cfs_{name}_us": text for name, text in (("quota", "25"), ("period", "10"))},
         2.5, None),
        ({"memory/memory.limit_in_bytes": "9223372036854771712\n"}, None, None),
        ({"memory/memory.limit_in_bytes": "4000000\n", "memory/elsewhere/memory.limit_in_bytes": "5000000\n"},
         None, 4000000),
    ],
)  # fmt: skip
def test_the_smallest_bound_of_the_own_group_and_of_those_above_it_holds(tmp_path, files, cpus, memory):
    write(tmp_path / "fs", files)
    (tmp_path / "own").write_text(SERVICE)
    assert cpu_quota(tmp_path / "fs", tmp_path / "own") == cpus
    assert memory_limit(tmp_path / "fs", tmp_path / "own") == memory


@pytest.mark.parametrize(
    ("cpus", "wanted"),
    [
        (CPUs(8, 8, None), "one for each CPU"),
        (CPUs(8, 8, 16.0), "one for each CPU"),
        (CPUs(8, 4, None), "this process may use 4 of 8 CPUs"),
        (CPUs(8, 4, 1.5), "the container's quota is 1.5 of 4 CPUs"),
    ],
)
def test_what_was_found_is_said(cpus, wanted):
    assert cpus.describe() == wanted


def test_threads_auto_is_logged_with_its_reason_and_a_number_is_not():
    with Running("plain:app", "--port", "0", "--threads", "auto") as server:
        found = find()
        assert f"--threads auto: {found.usable}, because {found.describe()}." in server.log
    with Running("plain:app", "--port", "0", "--threads", "1") as server:
        assert "--threads auto" not in server.log


MIB = 1 << 20


@pytest.mark.parametrize(
    ("options", "workers", "limit", "wanted"),
    [
        ({"limit_concurrency": 1000}, 1, None, ""),
        ({}, 1, MIB, ""),
        ({"limit_concurrency": 100}, 4, 256 * MIB, ""),
        (
            {"limit_concurrency": 225, "limit_queue": 25},
            4,
            256 * MIB,
            "The memory limit of this container is 256 MiB. 1000 requests at a time (--limit-concurrency and "
            "--limit-queue, of all workers) may take 562 MiB for their buffers alone: 455 would fit.",
        ),
    ],
)
def test_memory_that_is_less_than_the_options_let_requests_take_is_named(options, workers, limit, wanted):
    assert memory_problem(Config("a:b", **options), workers, limit) == wanted
