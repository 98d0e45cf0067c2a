"""Where the content of a request ends: plain requests, Content-Length, Transfer-Encoding, chunks."""

from tests.support.cases.case import GET, SMUGGLED, case, chunked, fields, length, line, post

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
