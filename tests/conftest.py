import logging
import os
import signal
from collections.abc import Iterator

import hypothesis
import pytest

pytest.register_assert_rewrite("tests.support")

from tests.support import marks, states  # noqa: E402
from tests.support.harness import Rig  # noqa: E402

# A machine that is busy with something else must not fail a property.
hypothesis.settings.register_profile("patient", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("patient")

# A shell lets what it runs in the background ignore Ctrl-C, and nohup SIGHUP, and so would every program that is
# started from here.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


states.check()


@pytest.fixture(autouse=True)
def _legal_states() -> Iterator[None]:
    states.illegal.clear()
    yield
    assert not states.illegal


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    marks.add(items)


@pytest.fixture(autouse=True)
def _no_foreign_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the developer's own shell sets must not decide a test."""
    ours = ("POUNCE_PYTHON", "POUNCE_CACHE", "POUNCE_NO_SKIP")
    for name in list(os.environ):
        if name in ("WEB_CONCURRENCY", "FORWARDED_ALLOW_IPS") or (name.startswith("POUNCE_") and name not in ours):
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def _loggers_as_found() -> Iterator[None]:
    """A server started within a test sets up logging for good; the next test is to find it as a new process does,
    and `caplog` able to see it."""
    level, factory, resort = logging.getLogger().level, logging.getLogRecordFactory(), logging.lastResort
    make_record = logging.Logger.makeRecord
    yield
    logging.getLogger().setLevel(level)
    logging.setLogRecordFactory(factory)
    logging.Logger.makeRecord = make_record  # type: ignore[method-assign]
    logging.lastResort = resort
    for name in ("pounce", "pounce.error", "pounce.access"):
        logger = logging.getLogger(name)
        logger.handlers, logger.filters, logger.propagate, logger.disabled = [], [], True, False
        logger.setLevel(logging.NOTSET)


@pytest.fixture(autouse=True)
def _rigs_closed() -> Iterator[None]:
    yield
    Rig.close_all()
