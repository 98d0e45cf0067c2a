"""The access log's fast lane and its ordinary records, levels and colours."""

import io
import logging
import sys

import pytest

from pounce.config.config import Config
from pounce.logging import TRACE, AccessFormatter, AccessLog, ColourizedFormatter, DefaultFormatter, configure
from pounce.worker.control import Report
from tests.support.answers import status_of
from tests.support.applications import hello
from tests.support.harness import Rig
from tests.support.requests import GET

NAMES = ("pounce", "pounce.error", "pounce.access")


@pytest.fixture(autouse=True)
def _restored():
    """Leaves logging as it was."""
    before = {name: (logging.getLogger(name).handlers[:], logging.getLogger(name).level,
                     logging.getLogger(name).propagate) for name in NAMES}  # fmt: skip
    yield
    for name, (handlers, level, propagate) in before.items():
        found = logging.getLogger(name)
        found.handlers, found.propagate, found.filters = handlers, propagate, []
        found.setLevel(level)


def records():
    """Ordinary records of the access log, as any handler gets them."""
    got = []

    class Keeping(logging.Handler):
        def emit(self, record):
            got.append(record)

    logging.getLogger("pounce.access").addHandler(Keeping())
    return got


@pytest.mark.parametrize("colours", [False, True])
def test_access_log_fast_lane_writes_what_ordinary_records_write(output, colours):
    output.begin()
    configure(Config("a:b", use_colors=colours))
    lines = [("1.2.3.4:5", "GET", "/a?b=c", "1.1", status) for status in (100, 200, 304, 404, 500, 299)]
    log = AccessLog()
    for line in lines:
        log.record(*line)
    log.flush()
    short = output[0].getvalue()
    output[0].seek(0)
    output[0].truncate()
    for line in lines:
        logging.getLogger("pounce.access").info('%s - "%s %s HTTP/%s" %d', *line)
    assert short == output[0].getvalue()
    assert ("\x1b[" in short) is colours


def test_access_log_writes_the_lines_of_one_turn_in_one_call(output):
    output.begin()
    configure(Config("a:b"))
    writes = []
    output[0].write = lambda text: writes.append(text)
    log = AccessLog()
    assert [log.record("c", "GET", "/", "1.1", 200) for _ in range(3)] == [True, False, False]
    assert writes == []
    log.flush()
    assert len(writes) == 1
    assert writes[0].count("\n") == 3


def changes():
    access = logging.getLogger("pounce.access")
    handler = access.handlers[0]
    yield lambda: access.addFilter(lambda record: True)
    yield lambda: handler.addFilter(lambda record: True)
    yield lambda: access.addHandler(logging.NullHandler())
    yield lambda: setattr(access, "propagate", True)
    yield lambda: handler.setFormatter(logging.Formatter("%(message)s"))
    yield lambda: handler.setFormatter(AccessFormatter("%(asctime)s %(request_line)s"))
    yield lambda: handler.setLevel(logging.ERROR)
    yield lambda: access.setLevel(logging.WARNING)


@pytest.mark.parametrize("number", range(8))
def test_access_log_with_any_other_configuration_makes_ordinary_records(output, number):
    output.begin()
    configure(Config("a:b"))
    log = AccessLog()
    assert log.record("c", "GET", "/", "1.1", 200)
    list(changes())[number]()
    log.flush()  # rechecks
    before = output[0].getvalue()
    assert not log.record("c", "GET", "/", "1.1", 200)
    log.flush()
    if number in (6, 7):  # the level says not to write at all
        assert output[0].getvalue() == before


def test_access_log_makes_ordinary_records_where_a_library_has_replaced_callhandlers(output, monkeypatch):
    output.begin()
    configure(Config("a:b"))
    seen = []
    original = logging.Logger.callHandlers

    def watching(self, record):
        seen.append(record.getMessage())
        original(self, record)

    monkeypatch.setattr(logging.Logger, "callHandlers", watching)
    AccessLog().record("c", "GET", "/", "1.1", 200)
    assert seen == ['c - "GET / HTTP/1.1" 200']


def test_access_record_has_uvicorns_five_arguments_in_order():
    configure(Config("a:b", log_config=None))
    got = records()
    logging.getLogger("pounce.access").setLevel(logging.INFO)
    rig = Rig(hello, access_log=True, root_path="/api")
    rig.connect().ask(GET.replace(b"/ ", b"/a%20b?c=d ", 1))
    (record,) = got
    assert record.args == ("192.0.2.1:4711", "GET", "/api/a%20b?c=d", "1.1", 200)
    assert record.getMessage() == '192.0.2.1:4711 - "GET /api/a%20b?c=d HTTP/1.1" 200'


def test_no_access_log_records_nothing(output):
    output.begin()
    configure(Config("a:b", access_log=False))
    rig = Rig(hello, access_log=False)
    rig.connect().ask(GET)
    assert output[0].getvalue() == ""
    assert not rig.worker._request_log.enabled


def test_access_log_that_cannot_be_written_is_reported_and_raises_nothing(output):
    output.begin()
    configure(Config("a:b"))

    def broken(text):
        raise OSError("no space left on device")

    output[0].write = broken
    log = AccessLog()
    log.record("c", "GET", "/", "1.1", 200)
    log.flush()
    assert "no space left on device" in output[1].getvalue()


@pytest.mark.parametrize("level", ["warning", "WARNING", 30])
def test_log_level_warning_leaves_out_info(output, level):
    output.begin()
    configure(Config("a:b", log_level=level))
    logging.getLogger("pounce.error").info("no")
    logging.getLogger("pounce.error").warning("yes")
    assert output[1].getvalue() == "WARNING:  yes\n"
    assert not logging.getLogger("pounce.access").isEnabledFor(logging.INFO)


def test_log_level_trace_is_below_debug_and_has_a_name(output):
    output.begin()
    configure(Config("a:b", log_level="trace"))
    logging.getLogger("pounce.error").log(TRACE, "fine")
    assert output[1].getvalue() == "TRACE:    fine\n"


def test_use_colors_unset_follows_whether_stderr_is_a_terminal(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr(sys, "stderr", Terminal())
    assert DefaultFormatter().use_colors
    assert not DefaultFormatter(use_colors=False).use_colors
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert not DefaultFormatter().use_colors


@pytest.mark.parametrize(
    ("variables", "terminal", "wanted"),
    [
        ({}, True, True),
        ({}, False, False),
        ({"NO_COLOR": "1"}, True, False),
        ({"NO_COLOR": ""}, True, True),
        ({"FORCE_COLOR": "1"}, False, True),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, True, False),
        ({"TERM": "dumb"}, True, False),
    ],
)
def test_use_colors_unset_follows_no_color_force_color_and_the_terminal(variables, terminal, wanted, monkeypatch):
    for name in ("NO_COLOR", "FORCE_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    for name in ("stdout", "stderr"):
        stream = io.StringIO()
        stream.isatty = lambda: terminal
        monkeypatch.setattr(sys, name, stream)
    assert DefaultFormatter().use_colors is AccessFormatter().use_colors is wanted
    assert DefaultFormatter(use_colors=not wanted).use_colors is not wanted


def test_color_message_replaces_the_message_where_colours_are_on():
    record = logging.LogRecord("x", 20, "f", 1, "at %s", ("home",), None)
    record.color_message = "AT %s"
    assert ColourizedFormatter("%(levelprefix)s %(message)s", use_colors=False).format(record) == "INFO:     at home"
    assert ColourizedFormatter("%(message)s", use_colors=True).format(record) == "AT home"


class BrokenHandler(logging.Handler):
    def emit(self, record):
        raise RecursionError("in a handler")


# Found by reading the code.
@pytest.mark.parametrize("name", ["pounce", "pounce.error", "pounce.access"])
def test_a_log_handler_that_raises_fails_no_request(name, monkeypatch, caplog, capsys):
    caplog.set_level(logging.INFO, logger=name)
    monkeypatch.setattr(logging.getLogger(name), "handlers", [BrokenHandler()])
    monkeypatch.setattr(logging.getLogger("pounce"), "propagate", False)

    async def app(scope, receive, send):
        await hello(scope, receive, send)
        raise ZeroDivisionError

    rig = Rig(app, access_log=True)
    assert rig.connect().ask(GET).endswith(b"hello")
    assert status_of(rig.connect().ask(b"BAD\r\n\r\n")) == 400
    assert rig.reports == [Report.READY]
    assert "pounce: RecursionError in logging, of " in capsys.readouterr().err
