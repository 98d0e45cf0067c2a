"""When changes are passed on, at times that the test moves."""

import pytest

from pounce.watch.settling import MAX_WAIT, QUIET, RETURN, Settling
from tests.support.harness import run_until_idle, sleeping_loop


class Files:
    """The states of files, and what is passed on, with its time."""

    def __init__(self, delay=0.0, catch_up=lambda: None):
        self.loop, self.clock, _ = sleeping_loop()
        self.states = {}
        self.reports = []
        self.settling = Settling(self.loop, self._report, delay, self.states.get, lambda: catch_up())
        self.begin = self.clock()

    def _report(self, paths):
        self.reports.append((pytest.approx(self.clock() - self.begin), paths))

    def change(self, path, state=(1, 1, 1)):
        self.states[path] = state
        self.settling.add({path})

    def at(self, seconds, *change):
        self.loop.call_at(self.begin + seconds, lambda: self.change(*change))


def test_a_change_is_passed_on_after_a_moment_of_quiet():
    files = Files()
    files.change("a")
    run_until_idle(files.loop)
    assert files.reports == [(QUIET, {"a"})]


def test_no_change_starts_nothing():
    files = Files()
    files.settling.add(set())
    run_until_idle(files.loop)
    assert files.reports == []


def test_changes_that_follow_each_other_are_passed_on_together():
    files = Files()
    for n in range(5):
        files.at(n * QUIET * 0.9, f"{n}")
    run_until_idle(files.loop)
    assert files.reports == [(QUIET * (4 * 0.9 + 1), set("01234"))]


def test_a_file_that_is_still_written_is_waited_for():
    files = Files()
    files.change("a")
    files.loop.call_at(files.begin + QUIET / 2, lambda: files.states.update(a=(2, 2, 1)))  # nothing reports it
    run_until_idle(files.loop)
    assert files.reports == [(QUIET * 2, {"a"})]


@pytest.mark.parametrize("state", [None, (1, 0, 1)], ids=["missing", "empty"])
def test_a_file_that_is_missing_or_empty_has_longer_to_come_back(state):
    files = Files()
    files.change("a", state)
    files.at(0.05, "a", (2, 2, 2))
    run_until_idle(files.loop)
    assert files.reports == [(0.05 + QUIET, {"a"})]


@pytest.mark.parametrize("state", [None, (1, 0, 1)], ids=["missing", "empty"])
def test_a_file_that_stays_missing_or_empty_is_passed_on(state):
    files = Files()
    files.change("a", state)
    run_until_idle(files.loop)
    assert files.reports == [(RETURN, {"a"})]


def test_a_tree_that_never_rests_is_passed_on():
    files = Files()
    for n in range(200):
        files.at(n * QUIET / 2, f"{n}", (n, n + 1, n))
    run_until_idle(files.loop)
    assert len(files.reports) == 2
    assert files.reports[0][0] == MAX_WAIT
    assert set().union(*(paths for _, paths in files.reports)) == {f"{n}" for n in range(200)}


def test_two_reports_are_delay_seconds_apart_and_the_first_does_not_wait():
    files = Files(delay=0.5)
    files.at(0.0, "a")
    files.at(0.1, "b")
    files.at(0.2, "c")
    files.at(2.0, "d")
    run_until_idle(files.loop)
    assert files.reports == [(QUIET, {"a"}), (0.5 + QUIET, {"b", "c"}), (2.0 + QUIET, {"d"})]


def test_what_is_found_while_catching_up_is_passed_on_with_the_change():
    found = [{"b"}, set()]
    files = Files(catch_up=lambda: files.settling.add(found.pop(0) if found else set()))
    files.states["b"] = (1, 1, 1)
    files.change("a")
    run_until_idle(files.loop)
    assert files.reports == [(QUIET * 2, {"a", "b"})]


def test_nothing_is_passed_on_after_the_end():
    files = Files()
    files.change("a")
    files.settling.close()
    run_until_idle(files.loop)
    assert files.reports == []
