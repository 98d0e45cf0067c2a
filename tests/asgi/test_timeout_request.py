"""timeout_request: how long a request may take."""

import contextlib

import pytest

import pounce
from pounce.kernel.task import Cancelled
from tests.support import gate
from tests.support.answers import content_of, status_of
from tests.support.gate import Gate, crowd, named
from tests.support.harness import Rig
from tests.support.requests import GET
from tests.support.server import Running, get


def test_timeout_request_that_is_off_arms_nothing():
    app, rig = Gate(), None
    rig = Rig(app)
    rig.connect().send(named("a"))
    assert rig.worker.service.admission.tracks_exchanges is False
    rig.wait(1000.0)
    assert list(app.inside) == ["a"]


def test_timeout_request_cancels_and_answers_504(caplog):
    app = Gate()
    rig = Rig(app, timeout_request=7.0)
    client = rig.connect()
    client.send(named("a"))
    rig.wait(6.9)
    assert client.read() == b""
    rig.wait(0.2)
    assert status_of(client.read()) == 504
    assert app.left == ["a"]
    assert "Request timed out: GET /a in Gate.__call__ (" in caplog.text
    assert f"{gate.__file__}:" in caplog.text
    assert not rig.worker.exchanges
    client.send(named("b"))  # the connection goes on
    app.inside["b"].wake()
    assert content_of(client.read()) == b"b"
    assert caplog.text.count("\n") == 1
    rig.wait(20.0)
    assert caplog.text.count("\n") == 1


@pytest.mark.parametrize("started", ["not", "head", "streaming"])
def test_timeout_request_answers_504_before_the_head_and_truncates_after_it(started, caplog):
    async def app(scope, receive, send):
        if started != "not":
            await send({"type": "http.response.start", "status": 200})
        if started == "streaming":
            await send({"type": "http.response.body", "body": b"some", "more_body": True})
        await pounce.sleep(100)

    rig = Rig(app, timeout_request=7.0)
    client = rig.connect()
    client.send(GET)
    rig.wait(7.1)
    answer = client.read()
    if started != "not":
        assert (b"some" in answer) == (started == "streaming")
        assert not answer.endswith(b"0\r\n\r\n")  # nobody takes it for the whole
        assert client.closed
    else:
        assert status_of(answer) == 504
        assert not client.closed
    assert caplog.text.count("Request timed out: GET / in ") == 1


def test_timeout_request_ends_a_stream_to_a_client_that_does_not_read():
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200})
        while True:
            await send({"type": "http.response.body", "body": bytes(65536), "more_body": True})

    rig = Rig(app, timeout_request=7.0)
    client = rig.connect()
    client.send(GET)
    rig.wait(7.1)
    assert not rig.worker.exchanges
    with contextlib.suppress(ConnectionResetError):
        client.read()
        assert client.closed


def test_timeout_request_leaves_work_after_the_response_alone(caplog):
    done = []

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"hello"})
        await pounce.sleep(20)
        done.append(True)

    rig = Rig(app, timeout_request=7.0)
    assert content_of(rig.connect().ask(GET)) == b"hello"
    rig.wait(21.0)
    assert done == [True]
    assert caplog.text == ""


def test_timeout_request_answers_504_and_names_an_application_that_ignores_its_cancellation(caplog):
    class Stubborn:
        tries = 0

        async def __call__(self, scope, receive, send):
            while self.tries < 2:
                try:
                    await pounce.sleep(30)
                    break
                except Cancelled:
                    self.tries += 1
            with pytest.raises(OSError, match="disconnected"):
                await send({"type": "http.response.start", "status": 200})

    app = Stubborn()
    rig = Rig(app, timeout_request=7.0)
    client = rig.connect()
    client.send(GET)
    rig.wait(7.1)
    assert status_of(client.read()) == 504
    rig.wait(5.0)
    assert caplog.text.count("ignores its cancellation; it is abandoned.") == 1
    rig.wait(40.0)
    assert app.tries == 1
    assert not rig.worker.exchanges
    assert caplog.text.count("\n") == 2


def test_timeout_request_begins_when_the_request_leaves_the_limit_queue():
    app, rig = crowd(timeout_request=7.0, queue_timeout=60.0)
    clients = {name: rig.connect() for name in "abc"}
    for name, client in clients.items():
        client.send(named(name))
    rig.wait(7.1)
    assert status_of(clients["a"].read()) == 504
    assert list(app.inside) == ["c"]
    rig.wait(6.8)
    assert list(app.inside) == ["c"]
    rig.wait(0.3)
    assert status_of(clients["c"].read()) == 504


def test_timeout_request_answers_504_under_asyncio(tmp_path):
    (tmp_path / "slow.py").write_text(
        "import asyncio\n"
        "async def app(scope, receive, send):\n"
        "    if scope['type'] == 'http':\n"
        "        try:\n"
        "            await asyncio.sleep(60)\n"
        "        except asyncio.CancelledError:\n"
        "            print('cleaned up', flush=True)\n"
        "            raise\n"
    )
    with Running("slow:app", "--port", "0", "--timeout-request", "0.3", cwd=tmp_path) as server:
        assert get(server.address, "/x") == (504, b"Gateway Timeout")
        server.wait_for("cleaned up")
        assert "Request timed out: GET /x in app (" in server.wait_for("timed out")
        server.stop()
        assert "Traceback" not in server.log
