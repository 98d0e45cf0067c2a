"""Fields that every response gets: Server, Date, and what the operator has asked for.

Owner: the worker's thread; each worker has its own, so that no two touch the same bytes.
"""

import time
from math import inf

from pounce.config.config import Config
from pounce.kernel.loop import Loop


class DefaultFields:
    def __init__(self, config: Config, loop: Loop) -> None:
        fields = [(name.lower(), value) for name, value in config.headers]
        if config.server_header and "server" not in dict(fields):
            fields.insert(0, ("server", "pounce"))
        self._fixed = "".join(f"{name}: {value}\r\n" for name, value in fields).encode("latin-1")
        self._with_date = config.date_header and "date" not in dict(fields)
        self._loop = loop
        self._lines = b""
        self._until = -inf

    def lines(self) -> bytes:
        """Their field lines, with the date of this second (RFC 9110, section 6.6.1)."""
        if self._loop.now >= self._until:
            now = time.time()
            self._until = self._loop.now + 1 - now % 1
            self._lines = self._fixed
            if self._with_date:
                self._lines += b"date: %b\r\n" % imf_fixdate(now)
        return self._lines


DAYS = (b"Mon", b"Tue", b"Wed", b"Thu", b"Fri", b"Sat", b"Sun")
MONTHS = (b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec")


def imf_fixdate(seconds: float) -> bytes:
    """A time, in seconds since the epoch, as RFC 9110 section 5.6.7 wants it. Neither of the standard library's ways
    will do: `strftime` speaks the language of the locale, and `email.utils` brings a tenth of a worker's memory."""
    year, month, day, hour, minute, second, weekday, *_ = time.gmtime(seconds)
    date = b"%b, %02d %b %d" % (DAYS[weekday], day, MONTHS[month - 1], year)
    return date + b" %02d:%02d:%02d GMT" % (hour, minute, second)
