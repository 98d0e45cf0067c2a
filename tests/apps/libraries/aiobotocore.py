"""aiobotocore: a client of the lifespan's; a signed URL."""

import contextlib

from aiobotocore.session import get_session
from fastapi import FastAPI

NEEDS = ["fastapi", "aiobotocore"]
keys = {"aws_access_key_id": "key", "aws_secret_access_key": "secret", "region_name": "eu-central-1"}


@contextlib.asynccontextmanager
async def lifespan(app):
    async with get_session().create_client("s3", **keys) as app.state.client:
        yield


app = FastAPI(lifespan=lifespan)


@app.get("/")
async def root():
    url = await app.state.client.generate_presigned_url("get_object", {"Bucket": "b", "Key": "k"})
    return {"ok": url.partition("?")[0]}
