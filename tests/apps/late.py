"""An application that imports asyncio only when it is asked to, in the middle of a request."""

import contextvars
import sys

import pounce

variable = contextvars.ContextVar("variable", default="unset")


async def app(scope, receive, send):
    if scope["type"] != "http":
        raise RuntimeError
    answer = "asyncio" if "asyncio" in sys.modules else "plain"
    if scope["path"] == "/late":
        variable.set("before")
        import asyncio

        loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        assert task is not None
        variable.set("after")
        async with asyncio.timeout(10):
            await asyncio.sleep(0.02)
        assert asyncio.get_running_loop() is loop
        assert asyncio.current_task() is task
        assert variable.get() == "after"
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.sleep(0.001))
        await pounce.sleep(0.001)
        answer = "came late"
    elif scope["path"] == "/waits":
        variable.set("waiting")
        await pounce.sleep(float(scope["query_string"]))
        assert variable.get() == "waiting"
        if "asyncio" in sys.modules:
            import asyncio

            assert asyncio.current_task() is not None
            await asyncio.sleep(0.001)
            answer = "carried on"
    elif scope["path"] == "/receives":
        content = b""
        while True:
            message = await receive()
            content += message["body"]
            if not message["more_body"]:
                break
        if "asyncio" in sys.modules:
            import asyncio

            assert asyncio.current_task() is not None
        answer = content.decode()
    elif scope["path"] == "/thread":

        def imports():
            import asyncio

            return asyncio.run(asyncio.sleep(0.001, "in a thread"))

        answer = await pounce.to_thread(imports)
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": answer.encode()})
