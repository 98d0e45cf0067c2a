"""Requests as bytes."""

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


CLOSE = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


def post(length, content=b"", *fields):
    lines = "".join(field + "\r\n" for field in fields)
    return f"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n{lines}\r\n".encode() + content
