"""http.response.pathsend: a file as the content of a response."""

import gc
import os

import pytest

from tests.support.answers import content_of, status_of
from tests.support.applications import answering, start
from tests.support.harness import Rig
from tests.support.requests import GET


def path_app(path, *fields):
    return answering(start(200, *fields), {"type": "http.response.pathsend", "path": str(path)})


def test_pathsend_sends_the_file_with_its_length_and_only_the_head_to_head(tmp_path):
    path = tmp_path / "file"
    content = os.urandom(300_000)
    path.write_bytes(content)
    client = Rig(path_app(path)).connect()
    answer = client.ask(GET)
    assert b"content-length: 300000\r\n" in answer
    assert content_of(answer) == content
    assert content_of(client.ask(GET)) == content
    answer = client.ask(GET.replace(b"GET", b"HEAD"))
    assert b"content-length: 300000\r\n" in answer
    assert content_of(answer) == b""


def test_pathsend_of_an_empty_file_is_200_with_length_0(tmp_path):
    path = tmp_path / "file"
    path.touch()
    client = Rig(path_app(path)).connect()
    assert b"content-length: 0\r\n" in client.ask(GET)
    assert status_of(client.ask(GET)) == 200


@pytest.mark.parametrize("what", ["missing", "folder", "other length"])
def test_pathsend_of_what_cannot_be_sent_is_500_and_leaks_no_descriptor(tmp_path, what, caplog):
    path, fields = tmp_path / "file", []
    if what == "folder":
        path.mkdir()
    elif what == "other length":
        path.write_bytes(b"abc")
        fields = [(b"content-length", b"5")]
    gc.collect()  # what earlier tests left must not be closed meanwhile
    descriptors = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    rig = Rig(path_app(path, *fields))
    client = rig.connect()
    opened = len(os.listdir("/proc/self/fd")) if descriptors else 0
    assert status_of(client.ask(GET)) == 500
    assert "Exception in ASGI application" in caplog.text
    if opened:
        assert len(os.listdir("/proc/self/fd")) == opened


# Found by reading the code.
def test_pathsend_of_a_pipe_is_500(tmp_path):
    """To open it would wait for somebody who writes, and everybody else with it."""
    os.mkfifo(tmp_path / "fifo")

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.pathsend", "path": str(tmp_path / "fifo")})

    assert status_of(Rig(app).connect().ask(GET)) == 500
