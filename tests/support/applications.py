"""Small ASGI applications, and the messages they are made of."""


def start(status=200, *fields, **more):
    return {"type": "http.response.start", "status": status, "headers": list(fields), **more}


def body(data=b"", more=False):
    return {"type": "http.response.body", "body": data, "more_body": more}


def answering(*messages):
    """An application that says these messages and nothing else."""

    async def app(scope, receive, send):
        for message in messages:
            await send(message)

    return app


async def hello(scope, receive, send):
    await send(start())
    await send(body(b"hello"))


async def echo(scope, receive, send):
    """Says back what it received, when it has received it all."""
    content = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        content += message["body"]
        if not message["more_body"]:
            break
    await send(start())
    await send(body(content))


class Recorder:
    """An application that notes what it receives, and says nothing until told to."""

    def __init__(self):
        self.scope = None
        self.received = []
        self.go = None
        self.error = None

    async def __call__(self, scope, receive, send):
        self.scope = scope
        try:
            while True:
                message = await receive()
                self.received.append(message)
                if message["type"] == "http.disconnect":
                    break
        except BaseException as error:
            self.error = error
            raise


BIG = 4_000_000


async def big(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": bytes(BIG)})


def waits_behind(size, events):
    """An application that says so much and then waits, as for the next event; it notes how it ends."""

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": bytes(size), "more_body": True})
        await receive()
        events.append(await receive())

    return app


def says(size):
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": bytes(size)})

    return app
