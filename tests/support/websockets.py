"""WebSocket clients and applications for tests, at the test's own time; wsproto reads and writes for the client."""

from wsproto import ConnectionType, events
from wsproto.connection import Connection

import pounce

KEY = "dGhlIHNhbXBsZSBub25jZQ=="


def handshake(*fields, path="/", method="GET", version="1.1", **replaced):
    """A request for a WebSocket; None leaves a field out."""
    values = {"Host": "a", "Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}
    values |= {"Sec-WebSocket-Key": KEY, **{name.replace("_", "-"): value for name, value in replaced.items()}}
    lines = [f"{name}: {value}" for name, value in values.items() if value is not None]
    return "\r\n".join([f"{method} {path} HTTP/{version}", *lines, *fields, "", ""]).encode()


class Socket:
    """A client's end: what it sends is masked by wsproto, what it gets is read by wsproto."""

    def __init__(self, rig, request=None, early=()):
        self.rig = rig
        self.client = rig.connect()
        self.protocol = Connection(ConnectionType.CLIENT)
        self.head = b""
        self.data = b""  # what came behind the head
        self.seen = []
        self.client.send((request or handshake()) + b"".join(map(self.protocol.send, early)))
        self.head, _, rest = self.client.read().partition(b"\r\n\r\n")
        self.take(rest)

    @property
    def status(self):
        return int(self.head.split(b" ", 2)[1])

    def field(self, name):
        for line in self.head.split(b"\r\n")[1:]:
            key, _, value = line.partition(b": ")
            if key.lower() == name:
                return value
        return None

    def take(self, data):
        self.data += data
        if data:
            self.protocol.receive_data(data)
        text, binary = [], []
        for event in self.protocol.events():
            if isinstance(event, events.TextMessage):
                text.append(event.data)
                if event.message_finished:
                    self.seen.append("".join(text))
                    text = []
            elif isinstance(event, events.BytesMessage):
                binary.append(bytes(event.data))
                if event.message_finished:
                    self.seen.append(b"".join(binary))
                    binary = []
            elif isinstance(event, events.CloseConnection):
                self.seen.append((int(event.code), event.reason or ""))
            elif isinstance(event, events.Pong):
                self.seen.append(("pong", bytes(event.payload)))
            elif isinstance(event, events.Ping):
                self.seen.append(("ping", bytes(event.payload)))

    def read(self):
        """What has come since the last time."""
        self.take(self.client.read())
        seen, self.seen = self.seen, []
        return seen

    def say(self, *messages):
        """Sends messages and events in one piece."""
        parts = [events.TextMessage(m) if isinstance(m, str) else events.BytesMessage(m) if isinstance(m, bytes) else m
                 for m in messages]  # fmt: skip
        self.client.send(b"".join(map(self.protocol.send, parts)))

    def raw(self, data):
        self.client.send(data)

    def ask(self, *messages):
        self.say(*messages)
        return self.read()

    def answer_close(self):
        self.say(events.CloseConnection(1000))

    @property
    def closed(self):
        return self.client.closed


def frame(first, payload=b"", length=None):
    """A frame masked with zeros, which is legal to the letter."""
    length = len(payload) if length is None else length
    head = bytes((first, 0x80 | length)) if length < 126 else bytes((first, 0xFE)) + length.to_bytes(2)
    return head + bytes(4) + payload


async def echo(scope, receive, send):
    while (message := await receive())["type"] != "websocket.disconnect":
        if message["type"] == "websocket.connect":
            await send({"type": "websocket.accept"})
        else:
            await send({**message, "type": "websocket.send"})


class Recorder:
    """Accepts, then notes what it receives until the end."""

    def __init__(self, *answers):
        self.scope = None
        self.received = []
        self.error = None
        self.answers = answers or ({"type": "websocket.accept"},)
        self.send = None

    async def __call__(self, scope, receive, send):
        self.scope, self.send = scope, send
        try:
            while True:
                message = await receive()
                if message["type"] == "websocket.connect":
                    for answer in self.answers:
                        await send(answer)
                    continue
                self.received.append(message)
                if message["type"] == "websocket.disconnect":
                    return
        except BaseException as error:
            self.error = error
            raise


def disconnect(code, reason=""):
    return {"type": "websocket.disconnect", "code": code, "reason": reason}


def texts(app):
    return [message.get("text", message.get("bytes")) for message in app.received if "code" not in message]


def fill(rig, socket, data):
    """Sends until the socket takes no more; how much that was."""
    sent = 0
    while True:
        try:
            sent += socket.client.sock.send(data)
        except BlockingIOError:
            rig.turn()
            try:
                sent += socket.client.sock.send(data)
            except BlockingIOError:
                return sent


class Slow(Recorder):
    """Accepts, and takes messages only while `taking`."""

    def __init__(self):
        super().__init__()
        self.taking = 0

    async def __call__(self, scope, receive, send):
        await receive()
        self.send = send
        await send({"type": "websocket.accept"})
        while not self.received or self.received[-1]["type"] != "websocket.disconnect":
            while not self.taking:
                await pounce.sleep(0.01)
            self.taking -= 1
            self.received.append(await receive())
