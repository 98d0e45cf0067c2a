"""Workers as a crew: one that is blocked, one with more to do than its siblings, one that dies. What needs a real
server is tested on both kinds of workers; what needs time has a clock of its own."""

import contextlib
import json
import signal
import socket
import sys
import threading
import time
from collections import Counter

import pytest

from pounce.net.listeners import Listener
from pounce.observe import stacks
from pounce.supervisor.plan import has_gil
from pounce.supervisor.pool import Crew
from pounce.supervisor.watchdog import BLOCKED, PATIENCE, TICK
from pounce.worker.balance import SHUT, Board
from pounce.worker.census import NOTHING
from pounce.worker.worker import Report
from tests.support.harness import Rig, skipping_loop
from tests.support.server import Running, ask, get

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
CLOSE = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


def begin(address, path, version="1.1"):
    """A request that nobody has answered yet."""
    client = socket.create_connection(address, timeout=30)
    client.sendall(f"GET {path} HTTP/{version}\r\nHost: a\r\n\r\n".encode())
    return client


# A blocked worker, for real


class FreshClients:
    """Clients that make a connection for each request, and note how long each took."""

    def __init__(self, address, count, requests, pause=0.01):
        self.address, self.pause = address, pause
        self.times, self.bad = [], []
        self.todo = iter(range(requests))
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=self.run) for _ in range(count)]
        for thread in self.threads:
            thread.start()

    def run(self):
        while True:
            with self.lock:
                if next(self.todo, None) is None:
                    return
            begun = time.monotonic()
            try:
                answer = ask(self.address, CLOSE)
            except OSError as error:
                answer = repr(error).encode()
            with self.lock:
                self.times.append(time.monotonic() - begun)
                if not answer.endswith(b"hello"):
                    self.bad.append(answer)
            time.sleep(self.pause)

    def join(self):
        for thread in self.threads:
            thread.join()


def test_nobody_waits_for_a_blocked_worker_but_its_own_clients():
    with Running("plain:app", "--port", "0", "--workers", "4", "--no-access-log") as server:
        clients = FreshClients(server.address, 8, 1200)
        time.sleep(0.1)
        begun = time.monotonic()
        blocker = begin(server.address, "/block?3")
        line = server.wait_for("has been blocked for")
        assert time.monotonic() - begun < 1.5  # a second, and what a busy machine adds
        assert "by GET /block; worker " in line
        assert "accepts in its place" in line
        clients.join()
        assert clients.bad == []
        assert max(clients.times) < 1.5
        assert blocker.recv(1000).endswith(b"blocked")
        server.wait_for("turns again, after ")
        assert '/plain.py", line' in server.log
        assert server.log.count("by GET /block; worker ") == 1
        assert {get(server.address)[0] for _ in range(20)} == {200}
        blocker.close()
        server.stop()


def test_a_blocked_worker_that_computes_is_shown_too(tmp_path):
    # A regular expression that backtracks keeps the GIL: its process cannot say anything itself.
    (tmp_path / "slow.py").write_text(
        "import re\n"
        "async def app(scope, receive, send):\n"
        "    if scope['type'] == 'http':\n"
        "        if scope['path'] == '/re': re.match('(a+)+$', 'a' * 26 + 'b')\n"
        "        await send({'type': 'http.response.start', 'status': 200})\n"
        "        await send({'type': 'http.response.body', 'body': b'hello'})\n"
    )
    with Running("slow:app", "--port", "0", "--workers", "2", cwd=tmp_path) as server:
        blocker = begin(server.address, "/re")
        server.wait_for("has been blocked for")
        server.wait_for('slow.py", line 4 in app')
        assert all(ask(server.address, CLOSE, timeout=5).endswith(b"hello") for _ in range(10))
        blocker.close()
        server.send_signal(signal.SIGKILL)


def test_the_only_worker_that_is_blocked_is_logged_at_debug_level():
    with Running("plain:app", "--port", "0", "--log-level", "debug") as server:
        blocker = begin(server.address, "/block?1.2")
        line = server.wait_for("has been blocked for")
        assert line.startswith("DEBUG:")
        assert line.endswith("by GET /block; it is the only one, so every other client waits until that is over.")
        assert server.wait_for("Worker 1 turns again").startswith("DEBUG:")
        blocker.close()


def test_a_worker_that_is_blocked_for_too_long_is_replaced():
    with Running("plain:app", "--port", "0", "--workers", "2", "--timeout-worker-stuck", "1.5") as server:
        blocker = begin(server.address, "/block?4")
        server.wait_for("is lost, blocked for 1.")
        server.wait_for("again.")
        assert all(get(server.address) == (200, b"hello") for _ in range(20))
        if has_gil():
            with contextlib.suppress(ConnectionResetError):
                assert blocker.recv(100) == b""  # a process can be killed
        else:
            assert blocker.recv(1000).endswith(b"blocked")  # a thread runs on, and is listened to if it comes back
        blocker.close()
        assert server.stop() == (0 if has_gil() else 143)
        assert server.log.count("lifespan shutdown") == (2 if has_gil() else 3)
        assert "leaving it behind" not in server.log


def test_a_lost_thread_is_left_behind_at_the_end():
    arguments = ("--workers", "2", "--timeout-worker-stuck", "1", "--timeout-graceful-shutdown", "0")
    with Running("plain:app", "--port", "0", *arguments) as server:
        blocker = begin(server.address, "/block?600")
        server.wait_for("is lost, blocked for 1.")
        assert get(server.address) == (200, b"hello")
        assert server.stop() == (0 if has_gil() else 143)
        assert ("leaving it behind" in server.log) is not has_gil()
        blocker.close()


# The watch, with a clock


class Handle:
    """A worker that only notes what it is told."""

    def __init__(self, number, told):
        self.number, self.told = number, told
        self.name = f"handle {number}"
        self.said = []
        self.waited = 0.0
        self.stack = '  File "app.py", line 1 in app'
        self.hung = False
        self.exit_code = 0

    def __getattr__(self, name):
        return lambda *arguments: self.said.append((name, *arguments))

    def blocked_for(self, now):
        return self.waited

    def unfinished(self):
        return NOTHING

    def describe(self):
        return "GET /x", self.stack


class Owner:
    def __init__(self):
        self.hired = []
        self.failures = []

    def hire(self, number, told):
        self.hired.append(Handle(number, told))
        return self.hired[-1]

    def first_ready(self): ...

    def all_ready(self): ...

    def failed(self, code):
        self.failures.append(code)

    def retired(self): ...

    def gone(self): ...


class Crowd:
    def __init__(self, count, patience=None):
        self.loop, self.selector = skipping_loop()
        self.owner = Owner()
        self.board = Board(count, processes=False)
        self.crew = Crew(self.owner, self.loop, count, self.board, patience)
        self.crew.start()
        for handle in self.owner.hired:  # grows while it is read
            handle.told(Report.READY)
        self.crew.serve()
        self.handles = [place.worker for place in self.crew.places]
        self.forget()

    def forget(self):
        for handle in self.owner.hired:
            handle.said.clear()

    def look(self, times=1):
        for _ in range(times):
            self.selector.skip = TICK
            self.loop.turn(0)


def test_a_blocked_worker_is_covered_until_it_turns_again(caplog):
    crowd = Crowd(3)
    one, two, three = crowd.handles
    crowd.look(3)
    assert one.said == two.said == three.said == []
    two.waited = BLOCKED
    crowd.look()
    helper = one if one.said else three
    assert helper.said == [("stand_in", 1)]
    assert list(crowd.board.blocked) == [0, 1, 0]
    assert "Worker 2 (handle 1) has been blocked for 0.6 s by GET /x; worker " in caplog.text
    crowd.look(3)
    assert helper.said == [("stand_in", 1)] * 4  # something may have been handed over meanwhile
    assert caplog.text.count("blocked") == 1
    two.waited = 0.0
    caplog.set_level("INFO", "pounce.error")
    crowd.look()
    assert helper.said[-1] == ("step_back", 1)
    assert list(crowd.board.blocked) == [0, 0, 0]
    assert "Worker 2 turns again, after 1.4 s." in caplog.text
    crowd.forget()
    crowd.look(3)
    assert helper.said == []


def test_a_helper_that_is_blocked_as_well_is_relieved():
    crowd = Crowd(3)
    crowd.handles[0].waited = 1.0
    crowd.look()
    first = next(handle for handle in crowd.handles if handle.said)
    first.waited = 1.0
    crowd.forget()
    crowd.look()
    last = next(handle for handle in crowd.handles if handle.waited == 0)
    assert sorted(last.said) == [("stand_in", 0), ("stand_in", first.number)]
    assert ("step_back", 0) in first.said
    last.waited = 1.0
    crowd.forget()
    crowd.look()  # nobody is left, and nothing breaks
    assert [call for handle in crowd.handles for call in handle.said if call[0] == "stand_in"] == []


def test_where_a_worker_is_missing_a_sibling_accepts():
    crowd = Crowd(2)
    one, two = crowd.handles
    one.told(Report.RETIRING)  # its successor starts, which may take a while
    crowd.look()
    assert two.said == [("stand_in", 0)]
    crowd.owner.hired[-1].told(Report.READY)
    crowd.look()
    assert two.said[-1] == ("step_back", 0)
    crowd.forget()
    two.told(Report.ENDED)  # it has died
    crowd.loop.turn(0)
    crowd.look()
    assert ("stand_in", 1) in crowd.crew.places[0].worker.said


def test_a_place_that_blocks_is_a_warning_once(caplog):
    caplog.set_level("INFO", "pounce.error")
    crowd = Crowd(2)
    one, two = crowd.handles

    def block(handle):
        caplog.clear()
        handle.waited = 1.0
        crowd.look(3)
        handle.waited = 0.0
        crowd.look()
        return [record.levelname for record in caplog.records]

    assert block(one) == ["WARNING", "INFO"]
    one.stack = one.stack.replace("line 1", "line 2")
    assert block(one) == block(two) == []
    caplog.set_level("DEBUG", "pounce.error")
    assert block(one) == ["DEBUG", "DEBUG"]
    two.stack = two.stack.replace("app.py", "other.py")
    assert block(two) == ["WARNING", "INFO"]


@pytest.mark.parametrize("level", ["INFO", "DEBUG"])
def test_that_the_only_worker_is_blocked_is_a_warning_after_a_while(caplog, level):
    caplog.set_level(level, "pounce.error")
    crowd = Crowd(1)
    (one,) = crowd.handles
    caplog.clear()
    for waited in (BLOCKED, PATIENCE - 0.1, PATIENCE, PATIENCE + 3, 0.0):
        one.waited = waited
        crowd.look()
    levels = [record.levelname for record in caplog.records]
    assert levels == ["DEBUG"] * (level == "DEBUG") + ["WARNING", "INFO"]
    assert "by GET /x; it is the only one, so every other client waits" in caplog.text
    caplog.clear()
    for waited in (BLOCKED, 0.0):
        one.waited = waited
        crowd.look()
    assert [record.levelname for record in caplog.records] == ["DEBUG", "DEBUG"] * (level == "DEBUG")


def test_a_worker_that_is_blocked_too_long_is_given_up_and_replaced(caplog):
    crowd = Crowd(2, patience=5.0)
    one, two = crowd.handles
    one.waited = 4.9
    crowd.look()
    assert ("lose",) not in one.said
    one.waited = 5.0
    crowd.look()
    assert one.said == [("lose",)]
    assert two.said[-1] == ("stand_in", 0)  # until the new one is there
    crowd.look()
    assert len(crowd.owner.hired) == 3
    assert crowd.owner.hired[-1].number == 0
    assert "Worker 1 (handle 0) is lost, blocked for 5.0 s." in caplog.text
    one.told(Report.RETIRING)  # it turns again, drains and ends
    one.told(Report.ENDED)
    assert len(crowd.owner.hired) == 3
    assert crowd.owner.failures == []


def test_a_loop_says_how_long_it_is_busy():
    loop, selector = skipping_loop()
    seen = []

    def block():
        selector.clock.now += 7.0
        seen.append(loop.clock() - loop.busy_since)

    loop.call_soon(block)
    selector.skip = 0.001
    loop.turn(0)
    assert seen == [7.0]
    select, selector.select = selector.select, lambda timeout: [seen.append(loop.busy_since), select(timeout)][1]
    loop.turn(0)
    assert seen[1] == float("inf")


# Stacks


@pytest.mark.parametrize("how", ["sleeping", "computing"])
def test_the_stack_of_a_thread_that_does_not_answer(how):
    over, begun = threading.Event(), threading.Event()

    def sleeping():
        begun.set()
        over.wait(30)

    def computing():
        begun.set()
        while not over.is_set():
            sum(range(100))

    thread = threading.Thread(target=locals()[how])
    thread.start()
    begun.wait()
    for _ in range(3):
        text = stacks.of(lambda number: signal.pthread_kill(thread.ident, number))
        assert f"in {how}\n" in text + "\n"
        assert "threading.py" not in text or how == "sleeping"
    over.set()
    thread.join()


def test_the_stack_of_somebody_who_has_gone_is_empty():
    def gone(number):
        raise ProcessLookupError

    assert stacks.of(gone) == ""


# The board


def pair():
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    return ours, (theirs, None, ("", None))


@pytest.mark.parametrize(
    ("loads", "blocked", "waiting", "chosen"),
    [
        ([0, 0, 0], [], 0, 0),
        ([1, 0, 0], [], 0, 1),
        ([1, 1, 1], [], 0, 0),
        ([3, 1, 2], [], 0, 1),
        ([3, 1, 1], [], 1, 2),  # somebody has given one to the first already
        ([3, 1, 2], [1], 0, 2),
        ([3, 1, 3], [1], 0, 0),
        ([9, SHUT, SHUT], [], 0, 0),
        ([SHUT, 0, 0], [], 0, 0),
    ],
)
@pytest.mark.parametrize("processes", [False, True])
def test_who_should_have_the_next_connection(loads, blocked, waiting, chosen, processes):
    board = Board(3, processes=processes)
    board.inboxes[1].open(skipping_loop()[0], int)
    pairs = [pair() for _ in range(waiting)]
    assert all(board.inboxes[1].put(parcel) for _, parcel in pairs)
    for number, load in enumerate(loads):
        board.loads[number] = load
        board.blocked[number] = number in blocked
    assert board.choose(0) == chosen


def test_numbers_that_threads_share_are_whole_objects():
    """ThreadSanitizer: the items of a memoryview are read and written in C with no care for other threads."""
    board = Board(2, processes=False)
    assert type(board.loads) is list
    assert type(board.blocked) is list


@pytest.mark.parametrize("processes", [False, True])
def test_a_connection_crosses_and_is_taken_once(processes):
    board = Board(2, processes=processes)
    loop, _ = skipping_loop()
    arrived = []
    assert list(board.give(1, pair()[1])) != []  # nobody is there
    board.inboxes[1].open(loop, lambda: arrived.extend(board.empty(1)))
    board.loads[1] = 0
    ours, parcel = pair()
    assert list(board.give(1, parcel)) == []
    loop.turn(0)
    loop.turn(0)
    assert len(arrived) == 1
    ours.send(b"x")
    assert arrived[0][0].recv(10) == b"x"
    assert list(board.empty(1)) == []


@pytest.mark.parametrize("processes", [False, True])
def test_what_is_given_to_one_that_shuts_in_the_same_moment_comes_back(processes):
    board = Board(2, processes=processes)
    loop, _ = skipping_loop()
    board.inboxes[1].open(loop, lambda: None)
    board.loads[1] = SHUT  # its last look into the inbox may be over
    ours, parcel = pair()
    (back,) = board.give(1, parcel)
    ours.send(b"x")
    assert back[0].recv(10) == b"x"


def test_a_full_inbox_of_a_process_gives_back():
    board = Board(2, processes=True)
    board.loads[1] = 0
    kept = []
    pairs = [pair() for _ in range(400)]
    for _, parcel in pairs:
        kept += board.give(1, parcel)
    assert 0 < len(kept) < 400
    assert len(list(board.empty(1))) == 400 - len(kept)


@pytest.mark.skipif(has_gil(), reason="about threads that run at the same time")
def test_whoever_takes_a_connection_takes_it_alone():
    """Givers, a receiver that opens and shuts, and a rescuer: every parcel comes out once."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        board = Board(2, processes=False)
        loop, _ = skipping_loop()
        count, out, over = 20_000, [[] for _ in range(4)], threading.Event()
        start = threading.Barrier(4)

        def give(mine):
            start.wait()
            for number in range(count):
                out[mine].extend(board.give(1, (mine, number)))

        def receive():
            start.wait()
            while not over.is_set():
                board.inboxes[1].open(loop, int)
                board.loads[1] = 0
                out[2].extend(board.empty(1))
                board.loads[1] = SHUT
                board.inboxes[1].shut()
                out[2].extend(board.empty(1))

        def rescue():
            start.wait()
            while not over.is_set():
                out[3].extend(board.rescue(1))

        others = [threading.Thread(target=receive), threading.Thread(target=rescue)]
        givers = [threading.Thread(target=give, args=(mine,)) for mine in range(2)]
        for thread in others + givers:
            thread.start()
        for thread in givers:
            thread.join()
        over.set()
        for thread in others:
            thread.join()
        assert sorted(parcel for part in out for parcel in part) == [(m, n) for m in range(2) for n in range(count)]
    finally:
        sys.setswitchinterval(interval)


# Reception


async def hello(scope, receive, send):
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": b"hello"})


class Siblings:
    """Workers of one server, turned when the test says so, each with a port of its own to choose it by."""

    def __init__(self, count, app=hello, **options):
        sockets = []
        for _ in range(count):
            sockets.append(socket.create_server(("127.0.0.1", 0)))
            sockets[-1].setblocking(False)
        self.listener = Listener(sockets, sockets[0].getsockname()[:2])
        self.board = Board(count, processes=False)
        self.rigs = [Rig(app, place=(number, [self.listener], self.board), **options) for number in range(count)]
        self.clients = []

    def turn(self):
        for _ in range(3):
            for rig in self.rigs:
                rig.turn(2)

    def connect(self, number, data=b""):
        client = socket.create_connection(self.listener.sockets[number].getsockname())
        client.sendall(data)
        client.settimeout(5)
        self.clients.append(client)
        return client

    @property
    def counts(self):
        return [len(rig.worker.connections) for rig in self.rigs]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for client in self.clients:
            client.close()
        self.turn()
        self.listener.close()


def test_a_new_connection_goes_to_whoever_has_least_to_do():
    with Siblings(4) as siblings:
        for _ in range(8):  # all come to the first, as chance may have it
            siblings.connect(0, GET)
        siblings.turn()
        assert min(siblings.counts) > 0
        assert max(siblings.counts) < 4
        assert sum(siblings.counts) == 8
        assert all(client.recv(1000).endswith(b"hello") for client in siblings.clients)
        assert max(siblings.board.loads) < 4


def test_with_nothing_else_to_do_a_worker_keeps_what_it_accepts():
    with Siblings(2) as siblings:
        for _ in range(10):
            client = siblings.connect(0, GET)
            siblings.turn()
            assert siblings.counts == [1, 0]
            client.close()
            siblings.turn()
        assert list(siblings.board.loads) == [0, 0]


def test_a_connection_that_rests_is_no_load():
    with Siblings(2) as siblings:
        for _ in range(3):
            siblings.connect(1, GET)
            siblings.turn()
        assert sum(siblings.board.loads) == 3
        for rig in siblings.rigs:
            rig.wait(2.5)
        assert list(siblings.board.loads) == [0, 0]
        assert sum(siblings.counts) == 3


def test_a_blocked_workers_queue_and_lobby_are_taken_over_and_what_it_has_begun_is_not():
    with Siblings(2) as siblings:
        one, two = siblings.rigs
        begun = siblings.connect(0, GET)
        one.turn()
        assert begun.recv(1000).endswith(b"hello")
        silent = siblings.connect(0)
        one.turn()  # accepted; it has not said anything
        assert silent in siblings.clients
        spoken = siblings.connect(0, GET)
        ours, parcel = pair()
        assert list(siblings.board.give(0, parcel)) == []
        # From here on the first worker does not turn.
        two.worker.reception.stand_in(0)
        two.turn()
        silent.sendall(GET)
        ours.sendall(GET)
        two.turn()
        for client in (silent, spoken, ours):
            assert client.recv(1000).endswith(b"hello")
        assert siblings.counts == [1, 3]
        one.turn()  # it finds nothing of what was taken
        begun.sendall(GET)
        one.turn()
        assert begun.recv(1000).endswith(b"hello")
        two.worker.reception.step_back(0)
        last = siblings.connect(0, GET)
        two.turn()
        assert siblings.counts == [1, 3]
        one.turn()
        siblings.turn()
        assert last.recv(1000).endswith(b"hello")
        ours.close()


def test_a_worker_that_retires_lets_nobody_stand_in_its_lobby():
    with Siblings(2) as siblings:
        silent = siblings.connect(0)
        siblings.rigs[0].turn()
        assert siblings.counts == [0, 0]
        ours, parcel = pair()
        assert list(siblings.board.give(0, parcel)) == []
        siblings.rigs[0].worker.retire()
        assert siblings.counts == [2, 0]
        assert siblings.board.loads[0] == SHUT
        silent.sendall(GET)
        siblings.turn()
        assert b"connection: close" in silent.recv(1000)
        ours.close()


def test_silence_in_the_lobby_has_an_end():
    with Siblings(2, timeout_request_head=4.0) as siblings:
        silent = siblings.connect(0)
        siblings.rigs[0].turn()
        assert siblings.board.loads[0] == 1
        siblings.rigs[0].wait(3.9)
        silent.setblocking(False)
        with pytest.raises(BlockingIOError):
            silent.recv(1)
        siblings.rigs[0].wait(0.2)
        assert silent.recv(1) == b""
        assert siblings.board.loads[0] == 0


def test_a_server_that_ends_serves_the_queue_of_a_worker_that_cannot():
    with Siblings(2) as siblings:
        clients = [siblings.connect(number, GET) for number in (0, 0, 1)]
        siblings.rigs[1].worker.stop()  # the other one is blocked, and hears nothing
        siblings.rigs[1].wait(0.3)
        assert all(client.recv(1000).endswith(b"hello") for client in clients)


def test_a_worker_that_has_retired_serves_the_queue_when_the_server_ends():
    with Siblings(1) as siblings:
        slow = siblings.connect(0, b"GET / HTTP/1.1\r\n")  # keeps it from ending
        siblings.turn()
        siblings.rigs[0].worker.retire()
        late = siblings.connect(0, GET)
        siblings.turn()
        siblings.rigs[0].worker.stop()
        siblings.rigs[0].wait(0.3)
        assert late.recv(1000).endswith(b"hello")
        slow.close()


def test_eight_busy_connections_are_two_for_each_of_four_workers():
    """Each stays busy: a connection that rests no longer counts."""
    options = ("--workers", "4", "--no-access-log", "--cancel-on-disconnect")
    with Running("plain:app", "--port", "0", *options) as server, contextlib.ExitStack() as clients:
        shares = Counter()
        for _ in range(8):
            client = clients.enter_context(socket.create_connection(server.address, timeout=30))
            client.sendall(GET.replace(b"/ ", b"/who ", 1))
            answer = json.loads(client.recv(1000).partition(b"\r\n\r\n")[2])
            shares[answer["pid"], answer["thread"]] += 1
            client.sendall(GET.replace(b"/ ", b"/sleep?60 ", 1))
        assert list(shares.values()) == [2] * 4
