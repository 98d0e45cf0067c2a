"""fastapi-mail: a message made and recorded, not sent."""

from fastapi import FastAPI
from fastapi_mail import ConnectionConfig, FastMail, MessageSchema, MessageType

NEEDS = ["fastapi", "fastapi_mail"]
mail = FastMail(
    ConnectionConfig(
        MAIL_USERNAME="x",
        MAIL_PASSWORD="x",
        MAIL_FROM="a@example.com",
        MAIL_PORT=25,
        MAIL_SERVER="127.0.0.1",
        MAIL_STARTTLS=False,
        MAIL_SSL_TLS=False,
        SUPPRESS_SEND=1,
    )
)
app = FastAPI()


@app.get("/")
async def root():
    message = MessageSchema(subject="x", recipients=["b@example.com"], body="hello", subtype=MessageType.plain)
    with mail.record_messages() as sent:
        await mail.send_message(message)
        return {"ok": bool(sent)}
