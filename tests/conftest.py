import importlib.util
import logging
import os
import shutil
import signal
from collections.abc import Iterator
from typing import NoReturn

import hypothesis
import pytest

# A machine that is busy with something else must not fail a property.
hypothesis.settings.register_profile("patient", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("patient")

# A shell lets what it runs in the background ignore Ctrl-C, and nohup SIGHUP, and so would every program that is
# started from here.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

# The packages, on Debian, of the programs that tests use.
PACKAGES = {
    "wrk": "wrk",
    "ab": "apache2-utils",
    "h2load": "nghttp2-client",
    "curl": "curl",
    "haproxy": "haproxy",
    "slowhttptest": "slowhttptest",
    "nc": "netcat-openbsd",
    "openssl": "openssl",
    "chromium": "chromium",
    "chromedriver": "chromium-driver",
    "redis-server": "redis-server",
    "postgres": "postgresql",
    "libpq": "libpq5",
}


def tool(name: str) -> str:
    """The path of an outside program."""
    path = shutil.which(name)
    return path if path is not None else missing(name)


def missing(name: str) -> NoReturn:
    """Without an outside program the test is skipped, or fails where nothing may be skipped."""
    reason = f"needs {name}: apt-get install {PACKAGES[name]}"
    if os.environ.get("POUNCE_NO_SKIP"):
        pytest.fail(reason)
    pytest.skip(reason)


def library(*names: str) -> None:
    """Without a library of its application the test is skipped: it may have no wheel for this interpreter."""
    for name in names:
        try:
            found = importlib.util.find_spec(name)
        except ModuleNotFoundError:  # of a package above it
            found = None
        if found is None:
            pytest.skip(f"needs {name}, which tools/dev.py could not install for this interpreter")


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
    yield
    for name in ("pounce", "pounce.error", "pounce.access"):
        logger = logging.getLogger(name)
        logger.handlers, logger.filters, logger.propagate, logger.disabled = [], [], True, False
        logger.setLevel(logging.NOTSET)
