"""What is written to standard output and standard error."""

import io
import sys

import pytest


class Output:
    """Standard output and standard error, in place from `begin` on: between a fixture and its test pytest replaces
    both. `output[0]` and `output[1]`."""

    def __init__(self, monkeypatch):
        self.monkeypatch = monkeypatch
        self.streams = None

    def __getitem__(self, place):
        return self.streams[place]

    def begin(self):
        self.streams = io.StringIO(), io.StringIO()
        self.monkeypatch.setattr(sys, "stdout", self.streams[0])
        self.monkeypatch.setattr(sys, "stderr", self.streams[1])


@pytest.fixture(name="output")
def output_fixture(monkeypatch):
    """For the conftest.py of a directory whose tests need it."""
    return Output(monkeypatch)
