"""What tests of several files here begin with."""

import pytest

from tests.support.service_manager import NotifySocket


@pytest.fixture
def manager(tmp_path):
    """The service manager's side of NOTIFY_SOCKET."""
    with NotifySocket(str(tmp_path / "notify")) as manager:
        yield manager
