"""What a test needs and may not find here: outside programs, and the libraries of its application."""

import importlib.util
import os
import shutil
from typing import NoReturn

import pytest

# The packages, on Debian, of the programs that tests use.
PACKAGES = {
    "wrk": "wrk",
    "ab": "apache2-utils",
    "h2load": "nghttp2-client",
    "curl": "curl",
    "nginx": "nginx-light",
    "haproxy": "haproxy",
    "apache2": "apache2-bin",
    "caddy": "caddy",
    "goaccess": "goaccess",
    "systemd-analyze": "systemd",
    "systemd-socket-activate": "systemd",
    "prlimit": "util-linux",
    "nginx-stream": "libnginx-mod-stream",
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
