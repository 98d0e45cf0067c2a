"""What the tests of the reader and the writer have in common."""

from hypothesis import strategies as st

HEAD = b"GET / HTTP/1.1\r\nHost: a\r\n"


TOKENS = st.text("abcXYZ-_!09", min_size=1, max_size=8).map(str.encode)


VALUES = st.text('abc ,;="/\t\x80ÿ', max_size=20).map(lambda text: text.strip().encode("latin-1"))


BODIES = st.binary(max_size=300)
