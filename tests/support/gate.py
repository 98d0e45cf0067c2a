"""An application whose requests end when the test says so, and a worker of it with a queue."""

from pounce.kernel.task import Wait
from tests.support.harness import Rig


def named(path):
    return f"GET /{path} HTTP/1.1\r\nHost: a\r\n\r\n".encode()


class Gate:
    """An application whose requests end when the test says so."""

    def __init__(self):
        self.inside = {}
        self.contents = []
        self.left = []

    async def __call__(self, scope, receive, send):
        path = scope["path"].removeprefix("/")
        wait = self.inside[path] = Wait()
        try:
            message = await receive()
            self.contents.append(message["body"])
            await wait
        finally:
            del self.inside[path]
            self.left.append(path)
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": path.encode()})


def crowd(**options):
    app = Gate()
    return app, Rig(app, limit_concurrency=2, limit_queue=2, **options)
