"""The file of --env-file, loaded again: SIGHUP and a reload read it anew."""

import os

import pytest

pytest.importorskip("dotenv", reason="python-dotenv is not installed")

from pounce.config import env_file


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.setattr(env_file, "_loaded", {})
    for name in ("FIRST", "SECOND", "THIRD"):
        monkeypatch.setenv(name, "")  # so that the test's end restores it
        monkeypatch.delenv(name)
    return tmp_path / ".env"


def load(file, text):
    file.write_text(text)
    env_file.load(str(file))
    return {name: os.environ[name] for name in ("FIRST", "SECOND", "THIRD") if name in os.environ}


def test_env_file_that_has_changed_changes_what_it_has_set(file):
    assert load(file, "FIRST=1\nSECOND=2") == {"FIRST": "1", "SECOND": "2"}
    assert load(file, "FIRST=one\nTHIRD=3") == {"FIRST": "one", "THIRD": "3"}
    assert load(file, "FIRST=two") == {"FIRST": "two"}


def test_env_file_never_changes_what_others_have_set(file, monkeypatch):
    monkeypatch.setenv("FIRST", "outside")
    assert load(file, "FIRST=1\nSECOND=2") == {"FIRST": "outside", "SECOND": "2"}
    os.environ["SECOND"] = "application"
    assert load(file, "FIRST=one\nSECOND=two") == {"FIRST": "outside", "SECOND": "application"}
    assert load(file, "") == {"FIRST": "outside", "SECOND": "application"}
