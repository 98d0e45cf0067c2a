"""Clients that check every byte of every response and account for every request.

    sent = answered + refused + disconnected + retriable + lost + wrong

answered      the complete, correct response arrived
refused       a complete 503 arrived; the client knows that its request was not executed
disconnected  the client itself closed the connection before the response
retriable     an earlier response on the same connection had `Connection: close`, so that the client must not assume
              that a pipelined request was received (RFC 9112, section 9.6); or a WebSocket ended with 1012
lost          no response, an incomplete one, or none in time; each is kept with what is known about it
wrong         a complete response with another status or content than expected

A request counts as sent when its first byte is given to the kernel on an open connection. A server may close an idle
connection at any time; the client checks for that before it sends. What the clients send is in `stress.kit.actions`.
"""

import asyncio
import contextlib
import random
import socket
import struct
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field

from stress.kit.pounce_server import Address

ANSWER_TIMEOUT = 60.0  # seconds until a request without a complete response is lost, also on a busy machine
MIN_RATE = 10  # responses per second that clients without pauses get, also on a busy machine
PIECE = 65536  # bytes of a paced request that are sent at once
RESET = struct.pack("ii", 1, 0)  # struct linger: close with a reset


@dataclass
class LostRequest:
    """A request without a complete response."""

    kind: str
    why: str
    got: int  # bytes of a response
    worker: int | None  # the process that has answered on this connection before
    opened: float
    sent: float
    seen: float

    def __str__(self) -> str:
        server = f"process {self.worker}" if self.worker else "an unknown process"
        return f"{self.kind} after {self.seen - self.sent:.2f} s and {self.got} bytes: {self.why} (served by {server})"


@dataclass
class Tally:
    """What became of the requests of all clients of one process."""

    sent: int = 0
    answered: int = 0
    refused: int = 0
    disconnected: int = 0
    retriable: int = 0
    connected: int = 0
    not_connected: int = 0
    """Attempts to connect that failed: no request was sent."""
    lost: list[LostRequest] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)
    times: list[float] = field(default_factory=list)
    stalled: float = 0.0
    """The longest time, in seconds, for which the loop of the clients was not scheduled."""

    @property
    def balances(self) -> bool:
        accounted = self.answered + self.refused + self.disconnected + self.retriable + len(self.lost) + len(self.wrong)
        return self.sent == accounted

    @property
    def failed(self) -> int:
        """Requests without the response that they should have, and attempts to connect that failed, where neither a
        refusal nor a server that is down is expected."""
        return len(self.lost) + len(self.wrong) + self.refused + self.not_connected

    @property
    def failures(self) -> list[str]:
        """Some of those that are lost or wrong."""
        return [str(each) for each in self.lost[:3]] + self.wrong[:3]

    def __str__(self) -> str:
        return (
            f"sent {self.sent} = answered {self.answered} + refused {self.refused} + disconnected {self.disconnected} "
            f"+ retriable {self.retriable} + lost {len(self.lost)} + wrong {len(self.wrong)}; "
            f"{self.connected} connections, {self.not_connected} failed to connect"
            + (f"; the clients' own loop stalled for up to {self.stalled:.1f} s" if self.stalled > 1 else "")
        )


class ConnectionEnded(ConnectionError):
    """The connection has ended before the response is complete."""


@dataclass
class Answer:
    status: int
    fields: dict[bytes, bytes]
    content: bytes

    @property
    def closes(self) -> bool:
        return self.fields.get(b"connection", b"").lower() == b"close"


class Connection:
    """A non-blocking socket with a parser for responses and WebSocket frames."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.loop = asyncio.get_running_loop()
        self.buffer = bytearray()
        self.worker: int | None = None
        self.opened = time.monotonic()
        self.pause = 0.0  # seconds before each read
        self.read_size = 65536

    @classmethod
    async def open(cls, address: Address, *, source: str | None = None, window: int | None = None) -> "Connection":
        sock, began = socket.socket(), time.monotonic()
        try:
            sock.setblocking(False)
            if window is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if source is not None:
                sock.setsockopt(socket.IPPROTO_IP, getattr(socket, "IP_BIND_ADDRESS_NO_PORT", 24), 1)
                sock.bind((source, 0))
            await asyncio.get_running_loop().sock_connect(sock, address)
        except BaseException:
            sock.close()
            raise
        connection = cls(sock)
        connection.opened = began  # a server may accept it before the client's loop notices that it is open
        return connection

    @property
    def ended(self) -> bool:
        """Has the server closed the connection?"""
        try:
            return not self.sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True

    async def send(self, data: bytes) -> None:
        await self.loop.sock_sendall(self.sock, data)

    def begin(self, data: bytes) -> bytes:
        """Sends what the kernel takes at once, and returns the rest. Raises OSError."""
        try:
            return data[self.sock.send(data) :]
        except BlockingIOError:
            return data

    async def push(self, data: bytes, *, half_close: bool = False, pace: float = 0.0) -> None:
        """Sends all, or what the connection takes before it fails: the read that follows reports the failure. `pace`:
        seconds after each PIECE bytes."""
        with contextlib.suppress(OSError):
            while pace and data:
                await self.send(data[:PIECE])
                data = data[PIECE:]
                await asyncio.sleep(pace)
            await self.send(data)
            if half_close:
                self.sock.shutdown(socket.SHUT_WR)

    async def more(self) -> None:
        if self.pause:
            await asyncio.sleep(self.pause)
        data = await self.loop.sock_recv(self.sock, self.read_size)
        if not data:
            raise ConnectionEnded("ended by the server")
        self.buffer += data

    async def _take(self, size: int) -> bytes:
        while len(self.buffer) < size:
            await self.more()
        taken = bytes(self.buffer[:size])
        del self.buffer[:size]
        return taken

    async def _line(self, end: bytes = b"\r\n") -> bytes:
        while (at := self.buffer.find(end)) < 0:
            await self.more()
        return (await self._take(at + len(end)))[: -len(end)]

    async def answer(self) -> Answer:
        """The next final response. Raises ConnectionEnded or OSError when it is incomplete."""
        while True:
            first, *lines = (await self._line(b"\r\n\r\n")).split(b"\r\n")
            status = int(first.split(b" ")[1])
            if status >= 200 or status == 101:
                break
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines)}
        if (worker := fields.get(b"x-worker")) is not None:
            self.worker = int(worker)
        if status == 101:
            return Answer(status, fields, b"")
        if fields.get(b"transfer-encoding") == b"chunked":
            parts = []
            while size := int(await self._line(), 16):
                parts.append(await self._take(size))
                await self._take(2)
            await self._line()
            return Answer(status, fields, b"".join(parts))
        return Answer(status, fields, await self._take(int(fields[b"content-length"])))

    async def frame(self) -> tuple[int, bytes]:
        """The next frame of a WebSocket: first byte and payload."""
        first, size = await self._take(2)
        if size > 125:
            size = int.from_bytes(await self._take(2 if size == 126 else 8))
        return first, await self._take(size)

    def close(self, *, reset: bool = False) -> None:
        if reset:
            with contextlib.suppress(OSError):
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.sock.close()


@dataclass
class Outstanding:
    left: int
    """Requests that have no outcome yet."""
    failed: bool = False


class Client:
    """Sends one request after the other, on one connection for as long as that stays open."""

    def __init__(self, address: Address, tally: Tally, seed: int, source: str | None = None) -> None:
        self.address = address
        self.tally = tally
        self.random = random.Random(seed)
        self.source = source
        self.connection: Connection | None = None
        self.stopping = False

    async def connect(self, **options: int | None) -> Connection:
        """A connection, after as many attempts as it takes. A failed attempt loses no request."""
        while True:
            try:
                connection = await Connection.open(self.address, source=self.source, **options)
            except OSError:
                self.tally.not_connected += 1
                if self.stopping:
                    raise
                await asyncio.sleep(0.05)
                continue
            self.tally.connected += 1
            return connection

    async def kept(self) -> Connection:
        while self.connection is None or self.connection.ended:  # also where opening it took long
            self.close()
            self.connection = await self.connect()
        return self.connection

    def close(self) -> None:
        if self.connection is not None:
            self.connection.close()
            self.connection = None

    async def ask(self, kind: str, requests: Sequence[tuple[bytes, bytes]], connection: Connection | None = None,
                  *, half_close: bool = False, pace: float = 0.0) -> None:  # fmt: skip
        """Sends the requests in one go, each with the content that is expected, and checks the responses in order.
        `pace`: seconds after each piece of the requests, which are sent slowly then."""
        own = connection is None
        connection = connection or await self.kept()
        tally = self.tally
        data = b"".join(data for data, _ in requests)
        sending: asyncio.Task[None] | None = None
        closes = False
        try:
            with self.counting(kind, len(requests), connection) as outstanding:
                # The first bytes leave in the step that has checked that the connection is open: in a later step, after
                # a stall of this program, the server may have closed it. Request and response may both be larger than
                # the kernel's buffers, so that a task sends the rest.
                first = data[:PIECE] if pace else data
                rest = connection.begin(first) + data[len(first) :]
                sending = asyncio.create_task(connection.push(rest, half_close=half_close, pace=pace))
                async with asyncio.timeout(ANSWER_TIMEOUT):
                    for _, expected in requests:
                        answer = await connection.answer()
                        outstanding.left -= 1
                        closes = answer.closes
                        if answer.status == 503:
                            tally.refused += 1
                        elif answer.status == 200 and answer.content == expected:
                            tally.answered += 1
                        else:
                            got = f"{answer.status}, {len(answer.content)} bytes {answer.content[:40]!r}"
                            tally.wrong.append(f"{kind}: {got}, not {len(expected)}")
                        if closes:
                            tally.retriable += outstanding.left
                            outstanding.left = 0
                            break
                    await sending
        finally:
            if sending is not None:
                sending.cancel()
            if own and (closes or half_close or outstanding.failed):
                self.close()

    @contextlib.contextmanager
    def counting(self, kind: str, count: int, connection: Connection) -> Iterator[Outstanding]:
        """Counts `count` requests as sent now. When the connection fails within, those without an outcome are lost."""
        self.tally.sent += count
        self.tally.kinds[kind] += count
        outstanding, sent = Outstanding(count), time.monotonic()
        try:
            yield outstanding
            self.tally.times.append(time.monotonic() - sent)
        except (OSError, ValueError, KeyError) as error:
            outstanding.failed = True
            why, now = f"{type(error).__name__}: {error}", time.monotonic()
            lost = LostRequest(kind, why, len(connection.buffer), connection.worker, connection.opened, sent, now)
            self.tally.lost += [lost] * outstanding.left


type Action = Callable[[Client], Awaitable[None]]


class Traffic:
    """`count` clients that send without pause, each action with the probability that its weight gives."""

    def __init__(self, address: Address, actions: dict[Action, int], count: int, tally: Tally | None = None,
                 seed: int = 0) -> None:  # fmt: skip
        self.tally = tally if tally is not None else Tally()
        self.actions = actions
        self.clients = [Client(address, self.tally, seed * 1000 + number) for number in range(count)]
        self._tasks: list[asyncio.Task[None]] = []
        self._stall_meter: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._tasks = [asyncio.create_task(self._run(client)) for client in self.clients]
        self._stall_meter = asyncio.create_task(self._measure_stalls())

    async def _measure_stalls(self) -> None:
        last = time.monotonic()
        while True:
            await asyncio.sleep(0.1)
            now = time.monotonic()
            self.tally.stalled, last = max(self.tally.stalled, now - last), now

    async def _run(self, client: Client) -> None:
        actions, weights = list(self.actions), list(self.actions.values())
        try:
            while not client.stopping:
                (action,) = client.random.choices(actions, weights)
                with contextlib.suppress(OSError):  # the server is gone, and the client is to stop
                    await action(client)
                await asyncio.sleep(0)
        finally:
            client.close()

    async def stop(self) -> None:
        """Lets every client finish its action. Raises the error that has ended one of them early, if any."""
        for client in self.clients:
            client.stopping = True
        try:
            await asyncio.gather(*self._tasks)
        finally:
            if self._stall_meter is not None:
                self._stall_meter.cancel()

    async def run(self, seconds: float) -> Tally:
        self.start()
        await asyncio.sleep(seconds)
        await self.stop()
        return self.tally
