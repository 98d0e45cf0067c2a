"""A plain ASGI application: shows what was asked, and which worker thread answers.

pounce examples.hello:app --threads 4
"""

import threading


async def app(scope, receive, send):
    if scope["type"] != "http":
        raise NotImplementedError(scope["type"])
    lines = [f"{scope['method']} {scope['path']} HTTP/{scope['http_version']}", ""]
    lines += [f"{name.decode()}: {value.decode('latin-1')}" for name, value in scope["headers"]]
    lines += ["", f"answered by {threading.current_thread().name}", ""]
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain; charset=utf-8")]}
    )
    await send({"type": "http.response.body", "body": "\n".join(lines).encode()})
