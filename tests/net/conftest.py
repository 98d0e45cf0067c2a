import pytest

from tests.support.stream_pair import Pair


@pytest.fixture
def pair():
    pair = Pair()
    yield pair
    pair.close()
