"""A worker that retires hands the connections that wait for a request over to its heir."""

import socket

import pytest

import pounce
from pounce.connections.context import RETIRE_IDLE
from pounce.net.stream import CLOSED
from pounce.worker.hand_over import MAX_PER_TURN
from pounce.worker.worker import WorkerState
from tests.support.answers import content_of, read_answers, status_of
from tests.support.applications import BIG, body, start
from tests.support.harness import Rig
from tests.support.requests import GET
from tests.support.websockets import echo as websocket_echo
from tests.support.websockets import handshake
from tests.support.workers import Siblings

KEPT = {"timeout_keep_alive": 60}


def named(name):
    """An application that answers with its name, and for `/slow` a second later."""

    async def app(scope, receive, send):
        if scope["path"] == "/slow":
            await pounce.sleep(1)
        await send(start())
        await send(body(name))

    return app


SLOW = GET.replace(b"/", b"/slow", 1)


class Two:
    """A worker, its heir, and clients of the first."""

    def __init__(self, old=None, new=None, **options):
        self.old = Rig(old or named(b"old"), **KEPT, **options)
        self.new = Rig(new or named(b"new"), **KEPT, **options)

    def connect(self):
        client = self.old.connect()
        client.rig = self
        return client

    def retire(self, **how):
        self.old.worker.retire(self.new.worker, **how)
        self.turn()

    def turn(self, times=8):
        self.old.turn(times)
        self.new.turn(times)

    def wait(self, seconds):
        self.old.wait(seconds)
        self.new.wait(seconds)

    @property
    def ended(self):
        self.turn()
        return self.old.worker.state is WorkerState.ENDED


def test_an_idle_connection_is_handed_over_and_its_next_request_is_the_heirs():
    two = Two()
    client = two.connect()
    assert content_of(client.ask(GET)) == b"old"
    two.retire()
    assert two.ended
    for _ in range(2):
        answer = client.ask(GET)
        assert content_of(answer) == b"new"
        assert b"connection: close" not in answer
    assert len(two.new.worker.connections) == 1


def test_a_request_that_the_kernel_holds_is_the_heirs():
    two = Two()
    clients = [two.connect() for _ in range(3)]
    clients[0].ask(GET)
    for client in clients:
        client.sock.sendall(GET)  # the loop has not turned since
    two.retire()
    assert [content_of(client.read()) for client in clients] == [b"new"] * 3
    assert two.ended


@pytest.mark.parametrize("served", [False, True])
@pytest.mark.parametrize("cut", range(1, len(GET)))
def test_a_head_that_has_come_in_part_is_read_on_by_the_heir(cut, served):
    two = Two()
    client = two.connect()
    if served:
        client.ask(GET)
    client.send(GET[:cut])
    two.retire()
    assert content_of(client.ask(GET[cut:] + GET)).startswith(b"new")
    assert content_of(client.ask(GET)) == b"new"
    assert two.ended


def test_a_running_request_ends_where_it_began_without_close_and_the_next_is_the_heirs():
    two = Two()
    client = two.connect()
    client.send(SLOW)
    two.retire()
    assert not two.ended
    two.wait(1.1)
    answer = client.read()
    assert content_of(answer) == b"old"
    assert b"connection: close" not in answer
    assert two.ended
    assert content_of(client.ask(GET)) == b"new"


def test_requests_that_were_read_behind_a_running_one_are_answered_in_order():
    two = Two()
    client = two.connect()
    client.send(SLOW + GET + GET[:9])
    two.retire()
    two.wait(1.1)
    client.send(GET[9:] + GET)
    assert [answer.content for answer in read_answers(client.read())] == [b"old", b"old", b"new", b"new"]
    assert two.ended


def test_content_that_nobody_reads_is_thrown_away_before_the_hand_over():
    two = Two()
    client = two.connect()
    assert content_of(client.ask(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\none")) == b"old"
    two.retire()
    assert not two.ended
    assert content_of(client.ask(b"two" + GET)) == b"old"  # it came behind what this worker had to read
    assert content_of(client.ask(GET)) == b"new"
    assert two.ended


@pytest.mark.parametrize("path", [False, True], ids=["bytes", "file"])
def test_what_the_client_has_not_taken_goes_with_the_connection(path, tmp_path):
    content = bytes(range(256)) * (BIG // 256)
    (tmp_path / "file").write_bytes(content)

    async def app(scope, receive, send):
        await send(start())
        if path:
            await send({"type": "http.response.pathsend", "path": str(tmp_path / "file")})
        else:
            await send(body(content))

    two = Two(app)
    client = two.connect()
    client.send(GET)
    [connection] = two.old.worker.connections
    assert connection.stream.buffered
    two.retire()
    assert two.ended
    [connection] = two.new.worker.connections
    assert connection.stream.buffered
    client.send(GET)
    answers = read_answers(client.read())
    assert [answer.content for answer in answers] == [content, b"new"]


def test_what_is_held_back_for_the_end_of_the_turn_leaves_before_the_hand_over():
    async def app(scope, receive, send):
        await send(start(200, (b"content-length", b"6")))
        await send(body(b"one", more=True))
        await send(body(b"two", more=True))
        await send(body())

    two = Two(app)
    client = two.connect()
    client.sock.sendall(GET)
    two.old.loop.turn(0)
    two.retire()
    assert content_of(client.read()) == b"onetwo"
    assert content_of(client.ask(GET)) == b"new"


def test_a_streamed_response_that_says_keep_alive_is_followed_by_the_heirs():
    async def app(scope, receive, send):
        await send(start())
        await send(body(b"a", more=True))
        await pounce.sleep(1)
        await send(body(b"b"))

    two = Two(app)
    client = two.connect()
    first = client.ask(GET)
    two.retire()
    two.wait(1.1)
    [answer] = read_answers(first + client.read())
    assert answer.content == b"ab"
    assert answer.whole
    assert two.ended
    assert content_of(client.ask(GET)) == b"new"


def test_close_asked_for_by_the_client_stays_a_close():
    two = Two()
    client = two.connect()
    client.send(SLOW.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
    two.retire()
    two.wait(1.1)
    assert b"connection: close" in client.read()
    assert client.closed
    assert two.ended


def test_a_client_that_has_closed_its_side_is_answered_and_not_handed_over():
    two = Two()
    client = two.connect()
    client.send(SLOW)
    client.sock.shutdown(socket.SHUT_WR)
    two.retire()
    two.wait(1.1)
    assert content_of(client.read()) == b"old"
    assert client.closed
    assert two.ended
    assert not two.new.worker.connections


def test_the_heir_closes_an_idle_connection_after_timeout_keep_alive():
    two = Two()
    idle, silent = two.connect(), two.connect()
    idle.ask(GET)
    two.retire()
    two.wait(11)
    assert silent.closed  # it never asked for anything: the deadline of a first head
    assert not idle.closed
    two.wait(50)
    assert idle.closed


def test_an_heir_that_has_retired_hands_on_to_its_own():
    two = Two()
    third = Rig(named(b"third"), **KEPT)
    client, running = two.connect(), two.connect()
    client.ask(GET)
    running.send(SLOW)
    two.retire()
    two.new.worker.retire(third.worker)
    two.turn()
    client.sock.sendall(GET)
    third.turn()
    assert content_of(client.read()) == b"third"
    assert two.new.worker.state is WorkerState.ENDED
    two.wait(1.1)  # the heir of the first has ended
    assert content_of(running.read()) == b"old"
    assert two.ended
    running.sock.sendall(GET)
    third.turn()
    assert content_of(running.read()) == b"third"


def test_an_heir_that_is_ready_keeps_what_it_is_given_until_it_serves():
    two = Two()
    third = Rig(named(b"third"), **KEPT, serves=False)
    client = two.connect()
    client.ask(GET)
    two.old.worker.retire(third.worker)
    two.turn()
    assert two.ended
    client.sock.sendall(GET)
    third.turn()
    assert not third.worker.connections
    third.worker.serve()
    third.turn()
    assert content_of(client.read()) == b"third"


@pytest.mark.parametrize("end", ["stop", "abort"])
def test_an_heir_that_ends_before_it_serves_leaves_no_connection_open(end):
    two = Two()
    third = Rig(named(b"third"), **KEPT, serves=False)
    client = two.connect()
    client.ask(GET)
    two.old.worker.retire(third.worker)
    two.turn()
    client.sock.sendall(GET)
    getattr(third.worker, end)()
    third.wait(1)
    if end == "stop":
        answer = client.read()
        assert content_of(answer) == b"third"
        assert b"connection: close" in answer
    assert client.closed
    assert third.worker.state is WorkerState.ENDED


def test_an_heir_that_has_ended_takes_nothing_and_the_worker_drains_without_it():
    two = Two()
    two.new.worker.stop()
    two.new.wait(1)
    assert two.new.worker.state is WorkerState.ENDED
    clients = [two.connect() for _ in range(3)]
    for client in clients:
        client.ask(GET)
    two.old.worker.retire(two.new.worker)
    for client in clients:
        answer = client.ask(GET)
        assert content_of(answer) == b"old"
        assert b"connection: close" in answer
    two.old.wait(1)
    assert two.old.worker.state is WorkerState.ENDED


def test_an_heir_that_still_starts_takes_nothing():
    async def app(scope, receive, send):
        await receive()
        await pounce.sleep(60)

    two = Two()
    third = Rig(app, lifespan="on")
    client = two.connect()
    client.ask(GET)
    two.old.worker.retire(third.worker)
    assert b"connection: close" in client.ask(GET)


def test_stop_after_retire_ends_the_hand_over():
    two = Two()
    client = two.connect()
    client.send(SLOW)
    two.retire()
    two.old.worker.stop()
    two.wait(1.1)
    answer = client.read()
    assert content_of(answer) == b"old"
    assert b"connection: close" in answer


def test_websockets_and_their_handshakes_are_not_handed_over():
    async def app(scope, receive, send):
        await receive()
        await pounce.sleep(1)
        await send({"type": "websocket.accept"})

    two = Two(app)
    client = two.connect()
    client.send(handshake())
    two.retire()
    two.wait(1.1)
    assert client.read().endswith(b"\x88\x02\x03\xf4")
    assert not two.new.worker.connections


def test_pending_connections_are_handed_over():
    with Siblings(1, named(b"old"), **KEPT) as siblings:
        new = Rig(named(b"new"), **KEPT)
        worker = siblings.rigs[0].worker
        clients = [siblings.connect(0) for _ in range(3)]
        siblings.turn()
        assert siblings.balancer.pending[0]
        clients[0].sendall(GET)  # the loop has not turned since
        worker.retire(new.worker)
        siblings.turn()
        new.turn()
        assert worker.state is WorkerState.ENDED
        assert content_of(clients[0].recv(1000)) == b"new"
        clients[1].sendall(GET)
        new.turn()
        assert content_of(clients[1].recv(1000)) == b"new"


def test_nothing_of_a_connection_stays_behind():
    two = Two()
    clients = [two.connect() for _ in range(3)]
    clients[0].ask(GET)
    clients[1].send(GET[:5])
    streams = [connection.stream for connection in two.old.worker.connections]
    two.retire()
    assert [stream.state for stream in streams] == [CLOSED] * 3
    context = two.old.worker.context
    assert not [queue for queue in context.deadlines.values() if len(queue)]
    assert not len(context.progress.write)
    assert two.ended


def test_many_connections_are_handed_over_as_fast_as_the_heir_goes_on_with_them():
    """Found by measuring: with 5,000 idle connections, those that were busy waited for 0.7 s."""
    two = Two()
    clients = [two.connect() for _ in range(3 * MAX_PER_TURN)]
    two.old.turn()
    two.old.worker.retire(two.new.worker)
    two.old.wait(1)
    assert two.new.worker.legacy.backlog == MAX_PER_TURN
    assert len(two.old.worker.connections) == 2 * MAX_PER_TURN
    two.new.turn(1)
    assert len(two.new.worker.connections) == MAX_PER_TURN
    for _ in range(3):
        two.wait(0.01)
    assert len(two.new.worker.connections) == 3 * MAX_PER_TURN
    assert {content_of(client.ask(GET)) for client in clients} == {b"new"}
    assert two.ended


def test_connections_that_wait_for_a_congested_heir_are_served_and_go_when_the_time_is_over():
    two = Two()
    clients = [two.connect() for _ in range(2 * MAX_PER_TURN)]
    two.old.turn()
    two.old.worker.retire(two.new.worker)
    two.old.wait(1)
    for client in clients:
        client.sock.sendall(GET)
    two.old.turn()
    two.old.worker.cancel()
    two.turn(16)
    answers = [content_of(client.read()) for client in clients]
    assert set(answers) == {b"old", b"new"}
    assert not any(client.closed for client in clients)
    assert {content_of(client.ask(GET)) for client in clients} == {b"new"}
    assert two.ended


def test_an_heir_that_ends_while_it_is_given_many_connections_serves_those_and_the_worker_the_others():
    two = Two()
    clients = [two.connect() for _ in range(3 * MAX_PER_TURN)]
    two.old.turn()
    two.old.worker.retire(two.new.worker)
    two.old.turn()
    two.new.worker.stop()
    for client in clients:
        client.sock.sendall(GET)
    for _ in range(3):
        two.wait(0.1)
    two.wait(1)
    answers = [client.read() for client in clients]
    assert sorted({content_of(answer) for answer in answers}) == [b"new", b"old"]
    assert two.new.worker.state is WorkerState.ENDED
    two.wait(RETIRE_IDLE)
    assert two.ended


def test_busy_connections_are_told_of_a_hurry_though_the_heir_is_congested():
    two = Two(websocket_echo)
    idle = [two.connect() for _ in range(2 * MAX_PER_TURN)]
    client = two.connect()
    client.send(handshake())
    assert client.read().startswith(b"HTTP/1.1 101 ")
    two.old.worker.retire(two.new.worker, hurry=True)
    two.old.turn()
    assert client.sock.recv(100) == b"\x88\x02\x03\xf4"
    assert len(idle) == 2 * MAX_PER_TURN


def test_an_error_with_one_connection_does_not_hold_up_the_others():
    two = Two()
    clients = [two.connect() for _ in range(2)]
    two.old.turn()
    legacy, go_on = two.new.worker.legacy, two.new.worker.legacy.go_on

    def fail(connection):
        legacy.go_on = go_on
        connection.stream.sock.close()
        raise ZeroDivisionError

    legacy.go_on = fail
    two.old.worker.retire(two.new.worker)
    two.old.turn()
    with pytest.raises(ZeroDivisionError):
        two.new.turn()
    assert [client.closed for client in clients].count(True) == 1
    [other] = [client for client in clients if not client.closed]
    assert content_of(other.ask(GET)) == b"new"


def test_a_request_that_is_cancelled_is_answered_503_with_close_and_its_connection_stays():
    two = Two()
    client, other = two.connect(), two.connect()
    client.send(SLOW)
    other.ask(GET)
    two.retire()
    two.old.worker.cancel()
    answer = client.read()
    assert status_of(answer) == 503
    assert b"connection: close" in answer
    assert client.closed
    assert content_of(other.ask(GET)) == b"new"
    two.wait(1)
    assert two.ended
