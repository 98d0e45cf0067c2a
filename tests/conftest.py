import os
import shutil

import pytest

# The packages, on Debian, of the programs that tests use.
PACKAGES = {
    "wrk": "wrk",
    "ab": "apache2-utils",
    "h2load": "nghttp2-client",
    "curl": "curl",
    "nc": "netcat-openbsd",
    "openssl": "openssl",
}


def tool(name: str) -> str:
    """The path of an outside program. Without it the test is skipped, or fails where nothing may be skipped."""
    path = shutil.which(name)
    if path is None:
        reason = f"needs {name}: apt-get install {PACKAGES[name]}"
        if os.environ.get("POUNCE_NO_SKIP"):
            pytest.fail(reason)
        pytest.skip(reason)
    return path


@pytest.fixture(autouse=True)
def _no_foreign_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the developer's own shell sets must not decide a test."""
    ours = ("POUNCE_PYTHON", "POUNCE_CACHE", "POUNCE_NO_SKIP")
    for name in list(os.environ):
        if name in ("WEB_CONCURRENCY", "FORWARDED_ALLOW_IPS") or (name.startswith("POUNCE_") and name not in ours):
            monkeypatch.delenv(name)
