"""What several files of this directory need."""

import pytest

from tests.support.browser import Browser
from tests.support.requirements import tool


@pytest.fixture
def browser(tmp_path):
    tool("chromium")
    tool("chromedriver")
    browser = Browser(tmp_path)
    yield browser
    browser.close()
