"""boto3: a client at module top; a signed URL."""

import boto3
from fastapi import FastAPI

NEEDS = ["fastapi", "boto3"]
session = boto3.Session("key", "secret", region_name="eu-central-1")
client = session.client("s3")
app = FastAPI()


@app.get("/")
def root():
    url = client.generate_presigned_url("get_object", {"Bucket": "b", "Key": "k"})
    return {"ok": url.partition("?")[0]}
