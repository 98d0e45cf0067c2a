"""Limits, Expect, Connection, HTTP/1.0, Upgrade, pipelines, and how connections end."""

from tests.support.cases.case import CLOSE, GET, SMUGGLED, case, chunked, fields, host, length, line, post

te = b"Transfer-Encoding: chunked"

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
