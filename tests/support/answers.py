"""Reads what a server sends to the end of the connection, as strictly as a suspicious client would."""

import contextlib
import re
import socket
from collections.abc import Iterable
from dataclasses import dataclass

STATUS = re.compile(rb"HTTP/1\.1 ([1-9][0-9]{2}) ([ -~]*)")
FIELD = re.compile(rb"([-!#$%&'*+.^_`|~0-9a-z]+): ((?:[!-~\x80-\xff](?:[ -~\x80-\xff\t]*[!-~\x80-\xff])?)?)")


@dataclass
class Answer:
    status: int
    fields: list[tuple[bytes, bytes]]
    content: bytes
    whole: bool

    def get(self, name: bytes) -> bytes | None:
        """The value of the only field of that name."""
        values = [value for other, value in self.fields if other == name]
        assert len(values) <= 1, (name, values)
        return values[0] if values else None


def read_answers(data: bytes, heads: Iterable[int] = ()) -> list[Answer]:
    """The answers in `data`, of which those to the requests numbered in `heads` have no content. Only the last may
    be cut off. AssertionError for whatever is not HTTP."""
    answers: list[Answer] = []
    number = 0
    while data:
        assert not answers or answers[-1].whole
        head, end, data = data.partition(b"\r\n\r\n")
        assert end, head
        first, *lines = head.split(b"\r\n")
        match = STATUS.fullmatch(first)
        assert match, first
        fields = []
        for text in lines:
            found = FIELD.fullmatch(text)
            assert found, text
            fields.append((found[1], found[2]))
        answer = Answer(int(match[1]), fields, b"", True)
        answers.append(answer)
        if answer.status < 200:
            assert not fields or answer.status == 103
            continue
        length, chunked = answer.get(b"content-length"), answer.get(b"transfer-encoding")
        assert length is None or chunked is None
        if number in heads or answer.status in (204, 304):
            assert answer.status != 204 or (length is None and chunked is None)
        elif length is not None:
            assert re.fullmatch(rb"[0-9]+", length)
            answer.content, data = data[: int(length)], data[int(length) :]
            answer.whole = len(answer.content) == int(length)
        elif chunked is not None:
            assert chunked == b"chunked"
            answer.content, data, answer.whole = read_chunks(data)
        else:  # the end of the connection
            answer.content, data = data, b""
        number += 1
    return answers


def read_chunks(data: bytes) -> tuple[bytes, bytes, bool]:
    content = b""
    while True:
        size, end, rest = data.partition(b"\r\n")
        if not end:
            return content, b"", False
        count = int(size, 16)
        if not count:
            break
        content += rest[:count]
        if len(rest) < count + 2:
            return content, b"", False
        assert rest[count : count + 2] == b"\r\n"
        data = rest[count + 2 :]
    while True:
        text, end, rest = rest.partition(b"\r\n")
        if not end:
            return content, b"", False
        if not text:
            return content, rest, True
        assert FIELD.fullmatch(text), text


def status_of(answer: bytes) -> int:
    """Of a single answer, as the next."""
    return int(answer.split(b" ", 2)[1])


def content_of(answer: bytes) -> bytes:
    return answer.partition(b"\r\n\r\n")[2]


def exchange(address: tuple[str, int], data: bytes, *, ends: bool = False, timeout: float = 10.0) -> tuple[bytes, bool]:
    """Sends `data`, all of it, then reads to the end: (what came, was the connection reset?)."""
    with socket.create_connection(address, timeout) as sock:
        reset = False
        try:
            sock.sendall(data)
            if ends:
                sock.shutdown(socket.SHUT_WR)
        except (BrokenPipeError, ConnectionResetError):
            reset = True
        came = b""
        with contextlib.suppress(ConnectionResetError):
            while part := sock.recv(1 << 18):
                came += part
            return came, reset
        return came, True
