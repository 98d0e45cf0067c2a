"""Heads: the syntax of fields, the request line, Host and what stands in its place."""

from tests.support.cases.case import GET, case, fields, host, length, line

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
