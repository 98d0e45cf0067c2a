"""A chat: `pounce examples.chat:app --threads 4`, then open http://127.0.0.1:8000 in two tabs.

Every tab is a WebSocket on some worker thread. What one says must reach all of them: each WebSocket has a queue on its
own worker's event loop, and only `call_soon_threadsafe` crosses from one thread to another. With worker processes
(Python with the GIL and several workers), each process is a room of its own.
"""

import asyncio
import contextlib
import threading

PAGE = b"""<!doctype html>
<meta charset="utf-8"><title>Chat</title>
<style>
  body { font: 16px sans-serif; max-width: 40em; margin: 2em auto; }
  #log { min-height: 10em; border: 1px solid #ccc; padding: .5em; white-space: pre-wrap; }
  input { width: 100%; box-sizing: border-box; font: inherit; margin-top: .5em; }
</style>
<div id="log"></div>
<form><input autofocus autocomplete="off" placeholder="Say something"></form>
<script>
  const log = document.querySelector("#log"), input = document.querySelector("input")
  const write = text => { log.textContent += text + "\\n" }
  let socket
  function connect() {
    socket = new WebSocket(location.href.replace(/^http/, "ws"))
    socket.onmessage = event => write(event.data)
    socket.onclose = event => {
      write(`(closed: ${event.code} ${event.reason})`)
      setTimeout(connect, 1000)  // 1012 says that the server comes back
    }
  }
  document.querySelector("form").onsubmit = event => {
    event.preventDefault()
    socket.send(input.value)
    input.value = ""
  }
  connect()
</script>
"""
PATIENCE = 100
"""Messages that wait for a tab which does not keep up. It misses the next ones."""


class Room:
    """Who is there. The lock is for the dictionary; the queues belong to their loops."""

    def __init__(self):
        self._members = {}
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def member(self):
        queue = asyncio.Queue()
        with self._lock:
            self._members[queue] = asyncio.get_running_loop()
        try:
            yield queue
        finally:
            with self._lock:
                del self._members[queue]

    def say(self, text):
        with self._lock:
            members = list(self._members.items())
        for queue, loop in members:
            with contextlib.suppress(RuntimeError):  # that worker has just ended
                loop.call_soon_threadsafe(self._put, queue, text)

    @staticmethod
    def _put(queue, text):
        if queue.qsize() < PATIENCE:
            queue.put_nowait(text)


room = Room()


async def app(scope, receive, send):
    if scope["type"] == "websocket":
        await chat(receive, send)
    elif scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/html")]})
        await send({"type": "http.response.body", "body": PAGE})
    else:
        raise NotImplementedError  # no lifespan


async def chat(receive, send):
    await receive()
    await send({"type": "websocket.accept"})
    with room.member() as queue:
        pushing = asyncio.create_task(push(queue, send))
        try:
            await send({"type": "websocket.send", "text": f"You are on {threading.current_thread().name}."})
            while (message := await receive())["type"] != "websocket.disconnect":
                if text := message.get("text"):
                    room.say(text)
        finally:
            pushing.cancel()


async def push(queue, send):
    while True:
        await send({"type": "websocket.send", "text": await queue.get()})
