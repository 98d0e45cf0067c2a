import pytest

from pounce.supervisor.cpus import usable_cpus


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
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert usable_cpus(tmp_path, affinity) == wanted


def test_there_is_at_least_one():
    assert usable_cpus() >= 1
