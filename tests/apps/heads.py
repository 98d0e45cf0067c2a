"""An endpoint that fails in the step in which it has begun its response."""


def fast():
    import asyncio

    from fastapi import FastAPI

    class Failing:
        async def __call__(self, scope, receive, send):
            await asyncio.sleep(0)
            await send({"type": "http.response.start", "status": 200, "headers": []})
            raise ZeroDivisionError

    app = FastAPI()

    app.mount("/", Failing())
    return app
