"""python-multipart: forms and uploads."""

from typing import Annotated

from fastapi import FastAPI, Form, UploadFile

NEEDS = ["fastapi", "python_multipart"]
CHECKS = [
    (
        "POST",
        "/",
        200,
        "--x\r\nContent-Disposition: form-data; name=word\r\n\r\n42\r\n"
        '--x\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\nhello\r\n--x--\r\n',
        {"Content-Type": "multipart/form-data; boundary=x"},
    )
]
app = FastAPI()


@app.post("/")
async def root(word: Annotated[str, Form()], file: UploadFile):
    return {"ok": word, "name": file.filename, "size": len(await file.read())}
