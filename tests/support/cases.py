"""The table of raw requests: what arrives, what may come back, and where that is written.

An outcome is the statuses of the answers in their order. `!` at the end: the connection is closed and nothing that
came later was answered. `~` after a status: that answer is cut off. Alternatives stand between `|`; where the RFC
allows several and this server has chosen one, only that one stands here.

After each case a further request is sent, so that a message whose end was misjudged shows: it swallows that request
or lets something else be taken for one.
"""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Case:
    name: str
    section: str
    """RFC and section, such as "9112 6.3"."""
    data: bytes
    allowed: str
    saw: tuple[dict[str, Any], ...] = ()
    """What the application must have seen of the requests that it answered, in their order; part of it."""
    ends: bool = False
    """The client sends nothing more, and says so, in place of the further request."""
    heads: frozenset[int] = field(default_factory=frozenset)
    """Which of the requests, counted from 0, are HEAD, so that their answers have no content."""


CASES: list[Case] = []


def case(name: str, section: str, data: bytes, allowed: str, *saw: dict[str, Any], **more: Any) -> None:
    assert all(name != other.name for other in CASES), name
    CASES.append(Case(name, section, data, allowed, saw, **more))


GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
CLOSE = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"


def line(text: bytes) -> bytes:
    """A request with this line."""
    return text + b"\r\nHost: a\r\n\r\n"


def fields(*lines: bytes, method: bytes = b"GET", version: bytes = b"1.1") -> bytes:
    """A request with these field lines too."""
    head = method + b" / HTTP/" + version + b"\r\nHost: a\r\n"
    return head + b"".join(text + b"\r\n" for text in lines) + b"\r\n"


def host(*lines: bytes, target: bytes = b"/", version: bytes = b"1.1") -> bytes:
    """A request with these field lines and no other."""
    return b"GET " + target + b" HTTP/" + version + b"\r\n" + b"".join(text + b"\r\n" for text in lines) + b"\r\n"


def post(*lines: bytes, content: bytes = b"") -> bytes:
    return fields(*lines, method=b"POST") + content


def chunked(content: bytes) -> bytes:
    return post(b"Transfer-Encoding: chunked", content=content)


def length(value: bytes, content: bytes = b"hello") -> bytes:
    return post(b"Content-Length: " + value, content=content)


# ------------------------------------------------------------------ requests as they should be

case("plain", "9112 3", GET, "200", {"method": "GET", "path": "/", "version": "1.1", "body": b""})
case("query", "9112 3.2.1", line(b"GET /a?b=c?d HTTP/1.1"), "200", {"path": "/a", "query": b"b=c?d"})
case("empty query", "9112 3.2.1", line(b"GET /? HTTP/1.1"), "200", {"path": "/", "query": b""})
case("two in one piece", "9112 9.3.2", GET + line(b"GET /2 HTTP/1.1"), "200 200", {"path": "/"}, {"path": "/2"})
case("forty in one piece", "9112 9.3.2", GET * 40, " ".join(["200"] * 40))
case("HEAD", "9110 9.3.2", line(b"HEAD / HTTP/1.1"), "200", heads={0})
case("HEAD then GET", "9110 9.3.2", line(b"HEAD / HTTP/1.1") + GET, "200 200", heads={0})
case("DELETE", "9110 9.3.5", line(b"DELETE /a HTTP/1.1"), "200", {"method": "DELETE"})
case("TRACE is the application's", "9110 9.3.8", line(b"TRACE / HTTP/1.1"), "200", {"method": "TRACE"})
case("content of a length", "9112 6.2", length(b"5"), "200", {"body": b"hello"})
case("content of length 0", "9112 6.2", length(b"0", b""), "200", {"body": b""})
case("content with GET", "9110 9.3.1", fields(b"Content-Length: 5") + b"hello", "200", {"body": b"hello"})
case("content with HEAD", "9110 9.3.2", fields(b"Content-Length: 2", method=b"HEAD") + b"hi", "200", heads={0})
case(
    "content with DELETE", "9110 9.3.5", fields(b"Content-Length: 2", method=b"DELETE") + b"hi", "200", {"body": b"hi"}
)
case("content in one chunk", "9112 7.1", chunked(b"5\r\nhello\r\n0\r\n\r\n"), "200", {"body": b"hello"})
case("content in chunks", "9112 7.1", chunked(b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"), "200", {"body": b"hello"})
case("chunked and empty", "9112 7.1", chunked(b"0\r\n\r\n"), "200", {"body": b""})
case("chunked GET", "9110 9.3.1", fields(b"Transfer-Encoding: chunked") + b"1\r\nx\r\n0\r\n\r\n", "200", {"body": b"x"})
case("chunked twice", "9112 9.3.2", chunked(b"1\r\nx\r\n0\r\n\r\n") * 2, "200 200", {"body": b"x"}, {"body": b"x"})
case(
    "content that looks like a request", "9112 6.2", length(b"%d" % len(SMUGGLED), SMUGGLED), "200", {"body": SMUGGLED}
)
case("a chunk that looks like a request", "9112 7.1", chunked(b"%x\r\n%b\r\n0\r\n\r\n" % (len(SMUGGLED), SMUGGLED)),
     "200", {"body": SMUGGLED})  # fmt: skip
case("content left unread", "9112 9.3", line(b"POST /early HTTP/1.1")[:-2] + b"Content-Length: 5\r\n\r\nhello" + GET,
     "200 200")  # fmt: skip
case("chunks left unread", "9112 9.3",
     line(b"POST /early HTTP/1.1")[:-2] + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n" + GET,
     "200 200")  # fmt: skip

# ------------------------------------------------------------------ smuggling: the end of the content

for first, second, words in (
    (b"Content-Length: 5", b"Transfer-Encoding: chunked", "CL before TE"),
    (b"Transfer-Encoding: chunked", b"Content-Length: 5", "TE before CL"),
    (b"Transfer-Encoding: chunked", b"Content-Length: 0", "TE before CL 0"),
    (b"Content-Length: 5", b"Transfer-Encoding: identity", "CL with TE identity"),
    (b"Content-Length: 5", b"Transfer-Encoding:", "CL with an empty TE"),
    (b"content-length: 5", b"TRANSFER-ENCODING: CHUNKED", "CL with TE in other letters"),
    (b"Transfer-Encoding: chunked", b"Content-Length: x", "TE with a bad CL"),
):
    case(words, "9112 6.1", post(first, second, content=b"0\r\n\r\n" + SMUGGLED), "400!")

for value, allowed in (
    (b"Chunked", "200"),
    (b"CHUNKED", "200"),
    (b"  \t chunked \t ", "200"),
    (b"chunked, identity", "400!"),
    (b"identity, chunked", "501!"),
    (b"gzip, chunked", "501!"),
    (b"gzip", "400!"),
    (b"identity", "400!"),
    (b"xchunked", "400!"),
    (b"chunkedx", "400!"),
    (b"chunked x", "400!"),
    (b"x chunked", "400!"),
    (b"chunked,", "400!"),
    (b",chunked", "501!"),
    (b"chunked,chunked", "400!"),
    (b"chunked , chunked", "400!"),
    (b"chunked;q=1", "400!"),
    (b'"chunked"', "400!"),
    (b"'chunked'", "400!"),
    (b"[chunked]", "400!"),
    (b"chunke", "400!"),
    (b"c\thunked", "400!"),
    (b"", "400!"),
    (b"\x0bchunked", "400!"),
    (b"chunked\x0b", "400!"),
    (b"\x00chunked", "400!"),
    (b"chunked\x00", "400!"),
    (b"chun\x00ked", "400!"),
    (b"\xa0chunked", "400!"),
    (b"chunked\xff", "400!"),
    (b"\rchunked", "400!"),
    (b"chunked\r", "400!"),
    (b"\nchunked", "400!"),
    (b"\r\n chunked", "400!"),
    (b"\r\n\tchunked", "400!"),
    (b"chunked\r\n ", "400!"),
    (b"chunked\r\n , identity", "400!"),
    (b"x\nTransfer-Encoding: chunked", "400!"),
):
    wire = b"0\r\n\r\n" if allowed == "200" else b"0\r\n\r\n" + SMUGGLED
    case(f"Transfer-Encoding {value!r}", "9112 6.1", post(b"Transfer-Encoding: " + value, content=wire), allowed)

for name, allowed in (
    (b"Transfer-Encoding", "200"),
    (b"transfer-ENCODING", "200"),
    (b"Transfer-Encoding ", "400!"),
    (b"Transfer-Encoding\t", "400!"),
    (b"Transfer-Encoding\x0b", "400!"),
    (b"Transfer-Encoding\x00", "400!"),
    (b" Transfer-Encoding", "400!"),
    (b"\tTransfer-Encoding", "400!"),
    (b"Transfer\x00-Encoding", "400!"),
    (b"Transfer Encoding", "400!"),
    (b"Transfer-Encoding\xff", "400!"),
    (b"\xefTransfer-Encoding", "400!"),
    (b"Transfer-Encoding\r", "400!"),
    (b"Transfer-Encoding\n", "400!"),
    (b"Transfer-Encoding\r\n", "400!"),
    (b"Transfer-Encoding:", "400!"),  # with the value ": chunked"
    (b"X: y\rTransfer-Encoding", "400!"),
    (b"X: y\nTransfer-Encoding", "400!"),
):
    wire = b"0\r\n\r\n" if allowed == "200" else b"0\r\n\r\n" + SMUGGLED
    case(f"{name!r}: chunked", "9112 5.1", post(name + b": chunked", content=wire), allowed)

# These are other fields, so the content is empty and what looks like it is a bad request.
for name in (b"Transfer_Encoding", b"Transfer-Encodin", b"X-Transfer-Encoding", b"Transfer--Encoding"):
    case(f"{name!r} is another field", "9112 6.3", post(name + b": chunked") + GET, "200 200")

te = b"Transfer-Encoding: chunked"
case("TE twice", "9112 7.1", post(te, te, content=b"0\r\n\r\n" + SMUGGLED), "400!")
case("TE identity then chunked", "9112 6.1", post(b"Transfer-Encoding: identity", te, content=b"0\r\n\r\n"), "501!")
case("TE chunked then identity", "9112 6.3", post(te, b"Transfer-Encoding: identity", content=b"0\r\n\r\n"), "400!")
case("TE chunked then empty", "9112 6.3", post(te, b"Transfer-Encoding:", content=b"0\r\n\r\n"), "400!")
case("TE from HTTP/1.0", "9112 6.1", fields(te, version=b"1.0") + b"0\r\n\r\n" + SMUGGLED, "400!")
case("TE from HTTP/1.0 kept alive", "9112 6.1",
     fields(te, b"Connection: keep-alive", version=b"1.0") + b"0\r\n\r\n" + SMUGGLED, "400!")  # fmt: skip
case("TE that Connection names", "9110 7.6.1",
     post(te, b"Connection: Transfer-Encoding", content=b"2\r\nhi\r\n0\r\n\r\n"), "200", {"body": b"hi"})  # fmt: skip
case("CL that Connection names", "9110 7.6.1",
     post(b"Content-Length: 2", b"Connection: Content-Length", content=b"hi"), "200", {"body": b"hi"})  # fmt: skip

for value, allowed in (
    (b"5", "200"),
    (b" 5", "200"),
    (b"5 ", "200"),
    (b"\t5\t", "200"),
    (b"05", "200"),
    (b"000000000000000005", "200"),
    (b"0000000000000000005", "200"),
    (b"00000000000000000005", "400!"),
    (b"+5", "400!"),
    (b"-5", "400!"),
    (b"-0", "400!"),
    (b"", "400!"),
    (b" ", "400!"),
    (b"0x5", "400!"),
    (b"5h", "400!"),
    (b"5.0", "400!"),
    (b"5e0", "400!"),
    (b"5_0", "400!"),
    (b"5 5", "400!"),
    (b"5,5", "400!"),
    (b"5, 5", "400!"),
    (b"5,6", "400!"),
    (b"5,", "400!"),
    (b",5", "400!"),
    (b"5;", "400!"),
    (b'"5"', "400!"),
    (b"\xb5", "400!"),
    (b"\xd9\xa5", "400!"),  # an Arabic 5, which int() would take
    (b"\xef\xbc\x95", "400!"),
    (b"\x0b5", "400!"),
    (b"5\x00", "400!"),
    (b"\r\n 5", "400!"),
    (b"5\r\n 0", "400!"),
    (b"5\rX: y", "400!"),
    (b"5\nX: y", "400!"),
    (b"100001", "413!"),  # the server of the table takes 100,000
    (b"9223372036854775807", "413!"),
    (b"9223372036854775808", "400!"),
    (b"18446744073709551621", "400!"),  # 5 in 64 bits
    (b"9" * 400, "400!"),
):
    saw = ({"body": b"hello"},) if allowed == "200" else ()
    case(f"Content-Length {value[:24]!r}", "9112 6.3", length(value), allowed, *saw)
case("CL twice the same", "9112 6.3", post(b"Content-Length: 5", b"Content-Length: 5", content=b"hello"), "400!")
case("CL twice", "9112 6.3", post(b"Content-Length: 5", b"Content-Length: 6", content=b"hello!"), "400!")
case("CL twice, once empty", "9112 6.3", post(b"Content-Length: 5", b"Content-Length:", content=b"hello"), "400!")
case("CL with a space before the colon", "9112 5.1", post(b"Content-Length : 5", content=b"hello"), "400!")
case("CL with an underscore is another field", "9112 6.3", post(b"Content_Length: 5") + GET, "200 200")
case("CL is too short", "9112 6.3", length(b"4", b"hello \r\n"), "200 400!", {"body": b"hell"})
case("CL hides a request", "9112 6.3", length(b"0", b"") + SMUGGLED, "200 200", {"body": b""}, {"path": "/smuggled"})

# ------------------------------------------------------------------ chunks

for size, allowed in (
    (b"5", "200"),
    (b"05", "200"),
    (b"0000000000000005", "200"),
    (b"00000000000000005", "400!"),
    (b"+5", "400!"),
    (b"-5", "400!"),
    (b" 5", "400!"),
    (b"5 ", "400!"),
    (b"5\t", "400!"),
    (b"\t5", "400!"),
    (b"0x5", "400!"),
    (b"0X5", "400!"),
    (b"5h", "400!"),
    (b"x5", "400!"),
    (b"g", "400!"),
    (b"", "400!"),
    (b"0_5", "400!"),
    (b"5_", "400!"),
    (b"5,5", "400!"),
    (b"5.", "400!"),
    (b"5\x00", "400!"),
    (b"\x005", "400!"),
    (b"5\xa0", "400!"),
    (b"5\r", "400!"),
    (b"\r\n5", "400!"),
    (b"\n5", "400!"),
    (b"8000000000000005", "400!"),
    (b"fffffffffffffffb", "400!"),  # -5 in 64 bits
    (b"100000005", "413!"),  # 5 in 32 bits
    (b"10000000000000005", "400!"),  # 5 in 64 bits
    (b"f" * 400, "400!"),
    # Extensions (section 7.1.1)
    (b"5;a", "200"),
    (b"5;a=b", "200"),
    (b"5;a=b;c=d", "200"),
    (b'5;a="b;c=\\"d\\""', "200"),
    (b"5 ; a = b", "200"),
    (b"5\t;a", "200"),
    (b'5;a="\xe4\t"', "200"),
    (b"5;" + b"a" * 4000, "200"),
    (b"5;" + b"a" * 5000, "400!"),
    (b"5;", "400!"),
    (b"5;;a", "400!"),
    (b"5;a;", "400!"),
    (b"5;=b", "400!"),
    (b"5;a=", "400!"),
    (b"5;a ", "400!"),
    (b"5;a b", "400!"),
    (b"5;a=b c", "400!"),
    (b'5;a="b', "400!"),
    (b'5;a="b"c', "400!"),
    (b'5;a="\x00"', "400!"),
    (b"5;\x00", "400!"),
    (b"5;a\x00", "400!"),
    (b"5;a\r", "400!"),
    (b"5;a\n0", "400!"),
    (b"5;a\r0", "400!"),
    (b"5;\x80", "400!"),
    (b"5;a\x7f", "400!"),
    (b"5 a", "400!"),
    (b"5:a", "400!"),
):
    saw = ({"body": b"hello"},) if allowed == "200" else ()
    case(
        f"chunk size {size[:24]!r} ({len(size)})", "9112 7.1", chunked(size + b"\r\nhello\r\n0\r\n\r\n"), allowed, *saw
    )

for wire, words, allowed in (
    (b"5\nhello\r\n0\r\n\r\n", "bare LF after the size", "400!"),
    (b"5\r\nhello\n0\r\n\r\n", "bare LF after the content", "400!"),
    (b"5\r\nhello\r0\r\n\r\n", "bare CR after the content", "400!"),
    (b"5\r\nhello0\r\n\r\n", "nothing after the content", "400!"),
    (b"5\r\nhello!\r\n0\r\n\r\n", "one byte too much", "400!"),
    (b"5\r\nhell\r\n0\r\n\r\n", "one byte too few", "400!"),
    (b"5\r\nhello\r\n\r\n0\r\n\r\n", "an empty line between chunks", "400!"),
    (b"5\r\rhello\r\n0\r\n\r\n", "CR CR after the size", "400!"),
    (b"5\r\nhello\r\n0\n\r\n", "bare LF after the last size", "400!"),
    (b"5\r\nhello\r\n0\r\n\n", "bare LF at the end", "400!"),
    (b"5\r\nhello\r\n0\r\n\rX", "bare CR at the end", "400!"),
    (b"0\r\nGET / HTTP/1.1\r\n\r\n", "a request in place of a trailer", "400!"),
    (b"5\r\nhello\r\n00\r\n\r\n", "the last chunk in two digits", "200"),
    (b"5\r\nhello\r\n0;a=b\r\n\r\n", "an extension of the last chunk", "200"),
    (b"5\r\nhello\r\n-0\r\n\r\n", "the last chunk with a sign", "400!"),
    (b"5\r\nhello\r\n0\r\nX: y\r\n\r\n", "a trailer", "200"),
    (b"5\r\nhello\r\n0\r\nX:\r\nY: \t z \r\n\r\n", "two trailers", "200"),
    (b"5\r\nhello\r\n0\r\nContent-Length: 50\r\n\r\n", "a trailer Content-Length", "400!"),
    (b"5\r\nhello\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n", "a trailer Transfer-Encoding", "400!"),
    (b"5\r\nhello\r\n0\r\nX: y\r\nhOST: b\r\n\r\n", "a trailer Host", "400!"),
    (b"5\r\nhello\r\n0\r\nConnection: close\r\nX-Host: b\r\n\r\n", "a trailer Connection means nothing", "200"),
    (b"5\r\nhello\r\n0\r\nX : y\r\n\r\n", "a trailer with a space before the colon", "400!"),
    (b"5\r\nhello\r\n0\r\nX\r\n\r\n", "a trailer without a colon", "400!"),
    (b"5\r\nhello\r\n0\r\n: y\r\n\r\n", "a trailer without a name", "400!"),
    (b"5\r\nhello\r\n0\r\nX: y\r\n z\r\n\r\n", "a continued trailer", "400!"),
    (b"5\r\nhello\r\n0\r\nX: \x00\r\n\r\n", "a trailer with NUL", "400!"),
    (b"5\r\nhello\r\n0\r\nX: y\n\r\n", "a trailer that ends with bare LF", "400!"),
    (b"5\r\nhello\r\n0\r\nX: y\rZ: a\r\n\r\n", "a trailer with bare CR", "400!"),
    (b"5\r\nhello\r\n0\r\n" + b"X: y\r\n" * 101 + b"\r\n", "too many trailers", "431!"),
    (b"5\r\nhello\r\n0\r\nX: " + b"y" * 70000 + b"\r\n\r\n", "a trailer that is too large", "431!"),
    (b"5\r\nhello\r\n0\r\nX: " + b"y" * 70000, "a trailer that never ends", "431!"),
    (b"5" + b"0" * 5000, "a size that never ends", "400!"),
    (
        b"1;aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\nx\r\n" * 1000 + b"0\r\n\r\n",
        "mostly extensions",
        "400!",
    ),
    (b"1\r\nx\r\n" * 1000 + b"0\r\n\r\n", "chunks of one byte", "200"),
    (b"186a1\r\n", "a chunk that is too large", "413!"),
    (b"186a0\r\n" + b"x" * 100000 + b"\r\n1\r\nx\r\n0\r\n\r\n", "a chunk too many", "413!"),
):
    saw = ({"body": b"hello"},) if allowed == "200" and b"hello" in wire else ()
    case(f"chunks: {words}", "9112 7.1", chunked(wire), allowed, *saw)
case("the head's fields after trailers", "9110 6.5.1", chunked(b"0\r\nX-Admin: yes\r\n\r\n"), "200",
     {"headers": [(b"host", b"a"), (b"transfer-encoding", b"chunked")]})  # fmt: skip

# ------------------------------------------------------------------ field syntax

for text, words, allowed in (
    (b"X:y", "no space", "200"),
    (b"X:  \t y \t", "space around", "200"),
    (b"X:", "no value", "200"),
    (b"X: \t ", "nothing but space", "200"),
    (b"X: a\tb c", "space inside", "200"),
    (b"X: \xe4\xff\x80", "8-bit value", "200"),
    (b"X: a:b::", "colons", "200"),
    (b"!#$%&'*+-.^_`|~0aZ: y", "every byte a name can have", "200"),
    (b"X: " + b" " * 5000 + b"y", "many blanks", "200"),
    (b"X: y\x00", "NUL", "400!"),
    (b"X: \x00", "nothing but NUL", "400!"),
    (b"X:" + b" " * 60000 + b"\x00", "many blanks before NUL", "400!"),
    (b"X: y" + b" " * 60000 + b"\x00", "many blanks between y and NUL", "400!"),
    (b"X: a\x01b", "a control character", "400!"),
    (b"X: a\x0bb", "a vertical tab", "400!"),
    (b"X: a\x1b[2Jb", "an escape", "400!"),
    (b"X: a\x7fb", "DEL", "400!"),
    (b"X: a\rb", "bare CR", "400!"),
    (b"X: a\r", "CR before CR LF", "400!"),
    (b"X: a\nb: c", "bare LF", "400!"),
    (b"X: a\n\nGET /smuggled HTTP/1.1", "two bare LF", "400!"),
    (b"X : y", "space before the colon", "400!"),
    (b"X\t: y", "tab before the colon", "400!"),
    (b": y", "no name", "400!"),
    (b":", "a colon", "400!"),
    (b"X", "no colon", "400!"),
    (b"X y", "no colon but a space", "400!"),
    (b"X Y: z", "space in the name", "400!"),
    (b"X\x00: y", "NUL in the name", "400!"),
    (b"\xc4: y", "8-bit name", "400!"),
    (b"X(: y", "a parenthesis in the name", "400!"),
    (b'"X": y', "quotes in the name", "400!"),
    (b"X/Y: z", "a slash in the name", "400!"),
    (b"X: y\r\n z", "continued", "400!"),
    (b"X: y\r\n\tz", "continued by a tab", "400!"),
    (b"X: y\r\n ", "continued by nothing", "400!"),
    (b"X:\r\n : y", "continued by a colon", "400!"),
    (b"GET /smuggled HTTP/1.1", "a request line among the fields", "400!"),
):
    case(f"field: {words}", "9110 5.5" if text[:2] == b"X:" else "9112 5.1", fields(text), allowed)
case("the first field is continued", "9112 2.2", b"GET / HTTP/1.1\r\n Host: a\r\nHost: b\r\n\r\n", "400!")
case("names in lower case, values as they are", "9110 5.1", fields(b"X-Y: \t Zed \xe4 "), "200",
     {"headers": [(b"host", b"a"), (b"x-y", b"Zed \xe4")]})  # fmt: skip
case("equal names stay apart", "9110 5.3", fields(b"X: 1", b"Y: 2", b"x: 3"), "200",
     {"headers": [(b"host", b"a"), (b"x", b"1"), (b"y", b"2"), (b"x", b"3")]})  # fmt: skip
case("no fields at all", "9112 3.2", b"GET / HTTP/1.1\r\n\r\n", "400!")
case("lines end with LF alone", "9112 2.2", b"GET / HTTP/1.1\nHost: a\n\n", "400!")
case("the last line ends with LF alone", "9112 2.2", b"GET / HTTP/1.1\r\nHost: a\r\n\n", "400!")
case("the request line ends with LF alone", "9112 2.2", b"GET / HTTP/1.1\nHost: a\r\n\r\n", "400!")
case("the request line ends with CR alone", "9112 2.2", b"GET / HTTP/1.1\rHost: a\r\n\r\n", "400!")
case("CR CR LF", "9112 2.2", b"GET / HTTP/1.1\r\r\nHost: a\r\r\n\r\r\n", "400!")

# ------------------------------------------------------------------ the request line

for text, words, allowed in (
    (b"get / HTTP/1.1", "a method in lower case is another method", "200"),
    (b"BREW / HTTP/1.1", "a method of one's own", "200"),
    (b"M-SEARCH / HTTP/1.1", "a method with a hyphen", "200"),
    (b"G!T / HTTP/1.1", "a method of any token", "200"),
    (b"G(T / HTTP/1.1", "a method that is no token", "400!"),
    (b"G\xe4T / HTTP/1.1", "an 8-bit method", "400!"),
    (b"G\x00T / HTTP/1.1", "NUL in the method", "400!"),
    (b"\x00GET / HTTP/1.1", "NUL before the method", "400!"),
    (b"A" * 100 + b" / HTTP/1.1", "a long method", "501!"),
    (b"A" * 10000, "a method that never ends", "501!"),
    (b" GET / HTTP/1.1", "space before the method", "400!"),
    (b"GET  / HTTP/1.1", "two spaces after the method", "400!"),
    (b"GET\t/ HTTP/1.1", "a tab after the method", "400!"),
    (b"GET /  HTTP/1.1", "two spaces before the version", "400!"),
    (b"GET /\tHTTP/1.1", "a tab before the version", "400!"),
    (b"GET / HTTP/1.1 ", "space after the version", "400!"),
    (b"GET / HTTP/1.1\t", "a tab after the version", "400!"),
    (b"GET /a b HTTP/1.1", "space in the target", "400!"),
    (b"GET /a\tb HTTP/1.1", "a tab in the target", "400!"),
    (b"GET /\x0bb HTTP/1.1", "a control character in the target", "400!"),
    (b"GET /\x00 HTTP/1.1", "NUL in the target", "400!"),
    (b"GET /\x7f HTTP/1.1", "DEL in the target", "400!"),
    (b"GET /\xe4 HTTP/1.1", "8-bit target", "400!"),
    (b"GET /a\rb HTTP/1.1", "bare CR in the target", "400!"),
    (b"GET / HTTP/1.1 GET /smuggled HTTP/1.1", "two in one line", "400!"),
    (b"GET HTTP/1.1", "no target", "400!"),
    (b"GET  HTTP/1.1", "an empty target", "400!"),
    (b"GET", "nothing but a method", "400!"),
    (b"GET /", "HTTP/0.9", "400!"),
    (b"GET / http/1.1", "the version in lower case", "400!"),
    (b"GET / HTTP/1", "half a version", "400!"),
    (b"GET / HTTP/1.", "a version that ends with the point", "400!"),
    (b"GET / HTTP/.1", "a version that begins with the point", "400!"),
    (b"GET / HTTP/1.1.1", "three numbers", "400!"),
    (b"GET / HTTP/01.1", "a zero before the version", "400!"),
    (b"GET / HTTP/1.01", "a zero in the version", "400!"),
    (b"GET / HTTP/1.10", "version 1.10", "400!"),
    (b"GET / HTTP/+1.1", "a sign before the version", "400!"),
    (b"GET / HTTP/1,1", "a comma in the version", "400!"),
    (b"GET / HTTP /1.1", "space in the version", "400!"),
    (b"GET / HTTPS/1.1", "HTTPS", "400!"),
    (b"GET / ICY/1.1", "another protocol", "400!"),
    (b"GET / HTTP/\xb9.1", "a digit of Latin-1", "400!"),
    (b"GET / HTTP/0.9", "version 0.9", "505!"),
    (b"GET / HTTP/1.2", "version 1.2", "200"),
    (b"GET / HTTP/1.9", "version 1.9", "200"),
    (b"GET / HTTP/2.0", "version 2.0", "505!"),
    (b"GET / HTTP/2", "version 2", "505!"),
    (b"GET / HTTP/3.0", "version 3.0", "505!"),
    (b"GET / HTTP/11.1", "version 11.1", "505!"),
    (b"GET / HTTP/" + b"9" * 400 + b".1", "a huge version", "505!"),
    (b"GET /a#b HTTP/1.1", "a fragment", "400!"),
    (b"GET /a?b#c HTTP/1.1", "a fragment after a query", "400!"),
    (b"GET /# HTTP/1.1", "an empty fragment", "400!"),
    (b"GET a HTTP/1.1", "a relative target", "400!"),
    (b"GET ?a HTTP/1.1", "nothing but a query", "400!"),
    (b"GET ../a HTTP/1.1", "a relative target with dots", "400!"),
    (b"GET \\ HTTP/1.1", "a backslash", "400!"),
    (b"GET a:80 HTTP/1.1", "authority form with GET", "400!"),
    (b"GET * HTTP/1.1", "asterisk form with GET", "400!"),
    (b"OPTIONS *?a HTTP/1.1", "asterisk form with a query", "400!"),
    (b"OPTIONS ** HTTP/1.1", "two asterisks", "400!"),
    (b"OPTIONS /* HTTP/1.1", "a slash and an asterisk", "200"),
    (b"CONNECT a:80 HTTP/1.1", "CONNECT", "501!"),
    (b"CONNECT / HTTP/1.1", "CONNECT with a path", "501!"),
    (b"CONNECT http://a/ HTTP/1.1", "CONNECT with a URL", "501!"),
    (b"CONNECT * HTTP/1.1", "CONNECT with an asterisk", "501!"),
):
    case(f"request line: {words}", "9112 3", line(text), allowed)

for target, words, saw in (
    (b"/%41", "an encoded letter", {"path": "/A", "raw_path": b"/%41"}),
    (b"/a%2Fb", "an encoded slash", {"path": "/a/b", "raw_path": b"/a%2Fb"}),
    (b"/%zz", "a bad encoding", {"path": "/%zz", "raw_path": b"/%zz"}),
    (b"/%", "half an encoding", {"path": "/%", "raw_path": b"/%"}),
    (b"/%4", "two thirds of an encoding", {"path": "/%4", "raw_path": b"/%4"}),
    (b"/%00", "an encoded NUL", {"path": "/\x00", "raw_path": b"/%00"}),
    (b"/%ff", "an encoding that is not UTF-8", {"path": "/\ufffd", "raw_path": b"/%ff"}),
    (b"/%0d%0aX:%20y", "an encoded CR LF", {"path": "/\r\nX: y"}),
    (b'/?%zz&"<>\\^`{|}', "bytes that no URL should have", {"query": b'%zz&"<>\\^`{|}'}),
    (b"//b/c", "two slashes", {"path": "//b/c"}),
    (b"/../a/./b", "dots", {"path": "/../a/./b"}),
    (b"/a;b=c", "parameters", {"path": "/a;b=c"}),
    (b"/http://b/", "a URL as a path", {"path": "/http://b/", "headers": [(b"host", b"a")]}),
):
    case(f"target: {words}", "9112 3.2.1", line(b"GET " + target + b" HTTP/1.1"), "200", saw)

for lead, words, allowed in (
    (b"\r\n", "an empty line before", "200"),
    (b"\r\n\r\n", "two empty lines before", "200"),
    (b"\r\n" * 8, "eight empty lines before", "200"),
    (b"\r\n" * 9, "nine empty lines before", "400!"),
    (b"\r\n" * 30000, "very many empty lines before", "400!"),
    (b"\n", "LF before", "400!"),
    (b"\r", "CR before", "400!"),
    (b"\r\r\n", "CR CR LF before", "400!"),
    (b"\r\n\r", "CR LF CR before", "400!"),
    (b" \r\n", "a blank line before", "400!"),
    (b"\0\r\n", "NUL before", "400!"),
):
    case(f"request line: {words}", "9112 2.2", lead + GET, allowed)
case("an empty line after content", "9112 2.2", length(b"5", b"hello\r\n") + GET, "200 200")
case("an empty line between requests", "9112 2.2", GET + b"\r\n" + GET + b"\r\n\r\n", "200 200")

# ------------------------------------------------------------------ Host, and what stands in its place

for value, words, allowed in (
    (b"a", "a name", "200"),
    (b"A.Example.", "a name with a point at its end", "200"),
    (b"a:80", "a port", "200"),
    (b"a:", "an empty port", "200"),
    (b"a:65535", "the last port", "200"),
    (b"a:00080", "a port with zeros", "200"),
    (b"127.0.0.1:8000", "IPv4", "200"),
    (b"[::1]", "IPv6", "200"),
    (b"[::ffff:127.0.0.1]:80", "IPv6 with IPv4 and a port", "200"),
    (b"[1:2:3:4:5:6:7:8]", "IPv6 with all its groups", "200"),
    (b"[1:2:3:4:5:6:7::]", "IPv6 with one group left out", "200"),
    (b"[1:2:3:4:5:6:255.255.255.255]", "IPv6 with six groups and IPv4", "200"),
    (b"[ABCD:ef::0001]", "IPv6 in letters of both cases", "200"),
    (b"[v1.a:b]:80", "an address of the future", "200"),
    (b"[V1F.~!$&'()*+,;=-._9]", "every byte that an address of the future can have", "200"),
    (b"a_b-c~d%41", "everything a registered name can have", "200"),
    (b"", "empty", "200"),
    (b"a:65536", "a port beyond the last", "400!"),
    (b"a:999999", "a port of six digits", "400!"),
    (b"a:b", "a port of letters", "400!"),
    (b"a:-1", "a port with a sign", "400!"),
    (b"a:80:80", "two ports", "400!"),
    (b":80", "nothing but a port", "400!"),
    (b"a@b", "user information", "400!"),
    (b"a:b@c", "user information with a password", "400!"),
    (b"a/b", "a path", "400!"),
    (b"a/", "a slash", "400!"),
    (b"http://a", "a URL", "400!"),
    (b"a?b", "a query", "400!"),
    (b"a#b", "a fragment", "400!"),
    (b"a b", "a blank", "400!"),
    (b"a\tb", "a tab", "400!"),
    (b"a, b", "two hosts", "400!"),
    (b"a\\b", "a backslash", "400!"),
    (b"\xe4", "8-bit", "400!"),
    (b"a\x00", "NUL", "400!"),
    (b"a%", "a bad encoding", "400!"),
    (b"a%zz", "an encoding that is none", "400!"),
    (b"a<script>", "markup", "400!"),
    (b'"a"', "quotes", "400!"),
    (b"[::1", "an open bracket", "400!"),
    (b"::1", "IPv6 without brackets", "400!"),
    (b"[]", "empty brackets", "400!"),
    (b"[a]", "a letter in brackets", "400!"),
    (b"[::1]a", "a name after the bracket", "400!"),
    (b"[::1%25eth0]", "a zone", "400!"),
    (b"[:::::]", "nothing but colons in brackets", "400!"),
    (b"[:::]", "three colons in brackets", "400!"),
    (b"[::1::]", "two gaps in brackets", "400!"),
    (b"[1::2:3:4:5:6:7:8]", "IPv6 with a gap that nothing is left out of", "400!"),
    (b"[1:2:3:4:5:6:7]", "IPv6 with seven groups", "400!"),
    (b"[1:2:3:4:5:6:7:8:9]", "IPv6 with nine groups", "400!"),
    (b"[1:2:3:4:5:6:7:1.2.3.4]", "IPv6 with seven groups and IPv4", "400!"),
    (b"[::12345]", "IPv6 with a group of five digits", "400!"),
    (b"[::1:]", "IPv6 with a colon at its end", "400!"),
    (b"[1.2.3.4::]", "IPv4 before a gap in brackets", "400!"),
    (b"[::1.2.3]", "IPv6 with three quarters of IPv4", "400!"),
    (b"[::1.2.3.256]", "IPv6 with impossible IPv4", "400!"),
    (b"[::1.2.3.04]", "IPv6 with a zero before a number of IPv4", "400!"),
    (b"[1.2.3.4]", "IPv4 in brackets", "400!"),
    (b"[v1]", "an address of the future without an address", "400!"),
    (b"[v1.]", "an empty address of the future", "400!"),
    (b"[v.a]", "an address of the future without a version", "400!"),
    (b"[v1.a%41]", "an encoding in an address of the future", "400!"),
):
    case(f"Host: {words}", "9112 3.2", host(b"Host: " + value), allowed)
case("Host: missing", "9112 3.2", host(b"X: y"), "400!")
case("Host: twice", "9112 3.2", host(b"Host: a", b"Host: b"), "400!")
case("Host: twice the same", "9112 3.2", host(b"Host: a", b"Host: a"), "400!")
case("Host: twice, once empty", "9112 3.2", host(b"Host:", b"Host: a"), "400!")
case("Host: twice in other letters", "9112 3.2", host(b"Host: a", b"hOST: b"), "400!")
case("Host: with a space before the colon", "9112 5.1", host(b"Host : a"), "400!")
case("Host: continued", "9112 5.2", host(b"Host:", b" a"), "400!")
case("Host: missing in HTTP/1.2", "9112 3.2", host(b"X: y", version=b"1.2"), "400!")
case("Host: missing in HTTP/1.0", "9112 3.2", host(b"X: y", version=b"1.0"), "200!", {"version": "1.0"})
case("Host: wrong in HTTP/1.0", "9112 3.2", host(b"Host: a b", version=b"1.0"), "400!")
case("Host: twice in HTTP/1.0", "9112 3.2", host(b"Host: a", b"Host: a", version=b"1.0"), "400!")

for target, words, saw in (
    (b"http://a/b?c", "as the Host", {"path": "/b", "query": b"c", "headers": [(b"host", b"a")]}),
    (b"http://b/c", "another host", {"path": "/c", "headers": [(b"host", b"b")]}),
    (b"http://b:81/c", "another port", {"path": "/c", "headers": [(b"host", b"b:81")]}),
    (b"HTTPS://B", "no path", {"path": "/", "headers": [(b"host", b"B")]}),
    (b"http://b?c", "a query and no path", {"path": "/", "query": b"c"}),
    (b"http://[::1]:80/", "IPv6", {"headers": [(b"host", b"[::1]:80")]}),
):
    case(f"absolute: {words}", "9112 3.2.2", line(b"GET " + target + b" HTTP/1.1"), "200", saw)
for target, words, saw in (
    (b"*", "asterisk form", {"path": "*", "raw_path": b"*", "headers": [(b"host", b"a")]}),
    (b"http://b", "nothing but a host", {"path": "*", "raw_path": b"*", "headers": [(b"host", b"b")]}),
    (b"HTTPS://b:81", "nothing but a host and a port", {"path": "*", "headers": [(b"host", b"b:81")]}),
    (b"http://b/", "a host and a slash", {"path": "/", "raw_path": b"/"}),
    (b"http://b?c", "a host and a query", {"path": "/", "query": b"c"}),
):
    case(
        f"OPTIONS: {words}",
        "9112 3.2.4",
        line(b"OPTIONS " + target + b" HTTP/1.1"),
        "200",
        {"method": "OPTIONS", **saw},
    )
for target, words in (
    (b"http://", "no host"),
    (b"http:///b", "an empty host"),
    (b"http:/b", "one slash"),
    (b"http:b", "no slash"),
    (b"http://:80/", "nothing but a port"),
    (b"http://u@b/", "user information"),
    (b"http://b#c", "a fragment"),
    (b"http://b:c/", "a bad port"),
    (b"http://[:::::]/", "nothing but colons in brackets"),
    (b"http://b\\c/", "a backslash"),
    (b"ftp://b/", "another scheme"),
    (b"file:///etc/passwd", "a file"),
    (b"://b/", "no scheme"),
    (b"ws://b/", "a WebSocket"),
):
    case(f"absolute: {words}", "9112 3.2.2", line(b"GET " + target + b" HTTP/1.1"), "400!")
case("absolute: Host missing", "9112 3.2", host(b"X: y", target=b"http://a/"), "400!")
case("absolute: Host wrong", "9112 3.2", host(b"Host: a b", target=b"http://a/"), "400!")
case("absolute: Host twice", "9112 3.2", host(b"Host: a", b"Host: a", target=b"http://a/"), "400!")
case("absolute: HTTP/1.0 without Host", "9112 3.2.2", host(target=b"http://a/", version=b"1.0"), "200!",
     {"headers": [(b"host", b"a")]})  # fmt: skip

# ------------------------------------------------------------------ limits

case("target of the greatest length", "9112 3", line(b"GET /" + b"a" * 8191 + b" HTTP/1.1"), "200")
case("target too long", "9110 15.5.15", line(b"GET /" + b"a" * 8192 + b" HTTP/1.1"), "414!")
case("target that never ends", "9110 15.5.15", b"GET /" + b"a" * 70000, "414!")
case("a hundred fields", "6585 5", fields(*[b"X: y"] * 99), "200")
case("too many fields", "6585 5", fields(*[b"X: y"] * 100), "431!")
case("a field of 60 KiB", "6585 5", fields(b"X: " + b"y" * 61440), "200")
case("a field too large", "6585 5", fields(b"X: " + b"y" * 65536), "431!")
case("a field that never ends", "6585 5", fields(b"X: y")[:-4] + b"y" * 70000, "431!")
case("fields too large together", "6585 5", fields(*[b"X: " + b"y" * 1000] * 70), "431!")
case("a name of 60 KiB", "6585 5", fields(b"x" * 61440 + b": y"), "200")
case("content of the greatest length", "9110 15.5.14", length(b"100000", b"x" * 100000), "200")
case("content too large in its head", "9110 15.5.14", length(b"100001", b"x" * 100), "413!")

# ------------------------------------------------------------------ Expect

expect = b"Expect: 100-continue"
case("100 not needed for content that is here", "9110 10.1.1",
     post(expect, b"Content-Length: 5", content=b"hello"), "200 | 100 200", {"body": b"hello"})  # fmt: skip
case("100 not needed for chunks that are here", "9110 10.1.1",
     post(expect, te, content=b"5\r\nhello\r\n0\r\n\r\n"), "200 | 100 200", {"body": b"hello"})  # fmt: skip
case("100 not needed without content", "9110 10.1.1", fields(expect), "200")
case("100 not needed for empty content", "9110 10.1.1", post(expect, b"Content-Length: 0"), "200")
case("100 expected by HTTP/1.0", "9110 10.1.1", fields(expect, b"Content-Length: 5", version=b"1.0") + b"hello",
     "200!", {"body": b"hello"})  # fmt: skip
case("another expectation", "9110 10.1.1", post(b"Expect: tea", b"Content-Length: 5", content=b"hello"), "200")
case("an empty expectation", "9110 10.1.1", post(b"Expect:", b"Content-Length: 5", content=b"hello"), "200")
case("100 for what is too large", "9110 10.1.1", post(expect, b"Content-Length: 100001"), "413!")

# ------------------------------------------------------------------ Connection, HTTP/1.0, Upgrade

for value, allowed in (
    (b"close", "200!"),
    (b"CLOSE", "200!"),
    (b"keep-alive", "200"),
    (b"keep-alive, close", "200!"),
    (b"close, keep-alive", "200!"),
    (b"close,", "200!"),
    (b",,close", "200!"),
    (b" x ,\tclose ", "200!"),
    (b"x-close", "200"),
    (b"closed", "200"),
    (b"close;x", "200"),
    (b"", "200"),
    (b"Host", "200"),
):
    case(
        f"Connection {value!r}",
        "9112 9.6",
        fields(b"Connection: " + value) + GET,
        allowed if "!" in allowed else "200 200",
    )
    old = {b"keep-alive": "200 200!"}.get(value, "200!")
    case(f"HTTP/1.0 Connection {value!r}", "9112 9.3",
         fields(b"Connection: " + value, version=b"1.0") + fields(version=b"1.0"), old)  # fmt: skip
case("Connection in two lines", "9112 9.6", fields(b"Connection: x", b"Connection: close") + GET, "200!")
case("Connection close in the first line", "9112 9.6", fields(b"Connection: close", b"Connection: keep-alive") + GET,
     "200!")  # fmt: skip
case("HTTP/1.0 closes", "9112 9.3", fields(version=b"1.0") + GET, "200!", {"version": "1.0"})
case("HTTP/1.0 keeps alive among others", "9112 C.2.2",
     fields(b"Connection: x, Keep-Alive", version=b"1.0") + CLOSE, "200 200!")  # fmt: skip
case("HTTP/1.0 content", "9112 6.3", fields(b"Content-Length: 2", version=b"1.0", method=b"POST") + b"hi", "200!",
     {"body": b"hi"})  # fmt: skip
case("HTTP/1.0 content without a length", "9112 6.3", fields(version=b"1.0", method=b"POST") + b"hi", "200!",
     {"body": b""})  # fmt: skip
case("HTTP/1.0 chunks are no answer", "9112 6.1",
     b"GET /stream HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" + GET, "200!")  # fmt: skip
case("Upgrade to what is not known", "9110 7.8", fields(b"Connection: upgrade", b"Upgrade: h2c") + GET, "200 200")
case("Upgrade with content", "9110 7.8",
     post(b"Connection: upgrade", b"Upgrade: tls/1.0", b"Content-Length: 2", content=b"hi") + GET, "200 200",
     {"body": b"hi"})  # fmt: skip
case("Upgrade from HTTP/1.0", "9110 7.8",
     fields(b"Connection: upgrade, keep-alive", b"Upgrade: h2c", version=b"1.0") + CLOSE, "200 200!")  # fmt: skip
for name, more, allowed in (
    ("without Connection", [], "200 200"),
    ("with Connection keep-alive", [b"Connection: keep-alive"], "200 200"),
    ("with Connection close", [b"Connection: close"], "200!"),
    ("with another option", [b"Connection: x-upgrade"], "200 200"),
    ("without Connection, with content of length 0", [b"Content-Length: 0"], "200 200"),
):
    data = fields(
        b"Upgrade: websocket", b"Sec-WebSocket-Version: 13", b"Sec-WebSocket-Key: " + b"A" * 22 + b"==", *more
    )
    case(f"Upgrade to WebSocket {name}", "9110 7.8", data + GET, allowed, {"body": b""})
case("h2c with its settings", "9113 3.1",
     fields(b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABk"), "200")  # fmt: skip
case("HTTP/2 preface", "9113 3.4", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00", "505!")
case("HTTP/2 preface after a request", "9113 3.4", GET + b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "200 505!")
case("TLS", "9112 2.2", bytes.fromhex("16030100c8010000c403035365") + b"\r\n\r\n" + bytes(180), "400!")
case("TLS after a request", "9112 2.2", GET + bytes.fromhex("1603010005010000"), "200 400!")
case("SSL 2", "9112 2.2", bytes.fromhex("802e0100020015000000100100800300800700c0"), "400!")
case("SOCKS 5", "9112 2.2", b"\x05\x01\x00", "400!")
case("PROXY protocol", "9112 2.2", b"PROXY TCP4 192.0.2.1 192.0.2.2 4711 80\r\n" + GET, "400!")
case("SSH", "9112 2.2", b"SSH-2.0-OpenSSH_9.6\r\n", "400!")
case("SMTP", "9112 2.2", b"EHLO a\r\n", "400!")
case("an answer", "9112 2.2", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "400!")

# ------------------------------------------------------------------ pipelines and ends

case("an error between requests", "9112 9.3.2", GET + GET + b"BAD\r\n\r\n" + GET, "200 200 400!")
case("an error after content", "9112 9.3.2", length(b"5") + host() + GET, "200 400!", {"body": b"hello"})
case("an error in the content of the second", "9112 9.3.2", GET + chunked(b"x\r\n") + GET, "200 400!")
case("two framings in the second", "9112 9.3.2",
     GET + post(te, b"Content-Length: 5", content=b"0\r\n\r\n" + SMUGGLED), "200 400!")  # fmt: skip
case("a second head too large", "9112 9.3.2", GET + fields(b"X: " + b"y" * 70000), "200 431!")
case("a refused HEAD", "9110 9.3.2", b"HEAD / HTTP/1.1\r\n\r\n", "400!", heads={0})
case("a refused HEAD in a pipeline", "9110 9.3.2", GET + b"HEAD / HTTP/1.1\r\n\r\n", "200 400!", heads={1})
case("a HEAD with content too large", "9110 9.3.2", fields(b"Content-Length: 100001", method=b"HEAD"), "413!",
     heads={0})  # fmt: skip
case("requests after close", "9112 9.6", CLOSE + SMUGGLED + SMUGGLED, "200!")
case("garbage after close", "9112 9.6", CLOSE + b"\x00\x01\x02" * 100, "200!")
case("requests after an answer that closes", "9112 9.6", line(b"GET /close HTTP/1.1") + SMUGGLED, "200!")
case("much after close", "9112 9.6", CLOSE + b"x" * 200000, "200!")
case("nothing", "9112 8", b"", "!", ends=True)
case("half a request line", "9112 8", b"GET / HT", "!", ends=True)
case("half a head", "9112 8", b"GET / HTTP/1.1\r\nHost: a\r\n", "!", ends=True)
case("half a head after a request", "9112 8", GET + GET[:-1], "200!", ends=True)
case("half a content", "9112 8", length(b"5", b"hel"), "! | 400! | 500!", ends=True)
case("half a chunk", "9112 8", chunked(b"5\r\nhel"), "! | 400! | 500!", ends=True)
case("chunks without the last", "9112 8", chunked(b"5\r\nhello\r\n"), "! | 400! | 500!", ends=True)
case("chunks without the last line", "9112 8", chunked(b"5\r\nhello\r\n0\r\n"), "! | 400! | 500!", ends=True)
case("a request and an end", "9112 9.6", GET, "200!", ends=True)
case("empty lines and an end", "9112 2.2", b"\r\n\r", "!", ends=True)
