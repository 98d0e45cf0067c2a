"""What is logged, where, and that the short cut for the access log looks like the long way."""

import io
import json
import logging
import sys

import pytest

from pounce.config.config import Config
from pounce.errors import ConfigError
from pounce.logging import LOGGING_CONFIG, TRACE, AccessFormatter, AccessLog, DefaultFormatter, configure
from pounce.worker.control import Report
from tests.support.answers import status_of
from tests.support.applications import hello
from tests.support.harness import Rig
from tests.support.requests import GET
from tests.support.server import Running, get

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


class Output:
    """What goes to standard output and error once the test asks for it: pytest puts its own there between."""

    def __init__(self, monkeypatch):
        self.monkeypatch = monkeypatch
        self.streams = None

    def __getitem__(self, place):
        return self.streams[place]

    def begin(self):
        self.streams = io.StringIO(), io.StringIO()
        self.monkeypatch.setattr(sys, "stdout", self.streams[0])
        self.monkeypatch.setattr(sys, "stderr", self.streams[1])


@pytest.fixture
def output(monkeypatch):
    return Output(monkeypatch)


def records():
    """Ordinary records of the access log, as any handler gets them."""
    got = []

    class Keeping(logging.Handler):
        def emit(self, record):
            got.append(record)

    logging.getLogger("pounce.access").addHandler(Keeping())
    return got


def test_the_default_writes_errors_to_stderr_and_accesses_to_stdout(output):
    output.begin()
    configure(Config("a:b"))
    logging.getLogger("pounce.error").info("hello")
    logging.getLogger("pounce.error").warning("careful")
    logging.getLogger("pounce.access").info('%s - "%s %s HTTP/%s" %d', "1.2.3.4:5", "GET", "/a", "1.1", 404)
    assert output[1].getvalue() == "INFO:     hello\nWARNING:  careful\n"
    assert output[0].getvalue() == 'INFO:     1.2.3.4:5 - "GET /a HTTP/1.1" 404 Not Found\n'


def test_the_default_is_what_the_dictionary_says(output):
    output.begin()

    def found():
        for name in NAMES:
            logger = logging.getLogger(name)
            yield name, logger.level, logger.propagate, logger.disabled
            for handler in logger.handlers:
                yield type(handler), handler.name, handler.stream, handler.level
                yield type(handler.formatter), handler.formatter._fmt, handler.formatter.use_colors

    configure(Config("a:b"))
    default = list(found())
    configure(Config("a:b", log_config=LOGGING_CONFIG))
    assert default == list(found())


def test_the_dictionary_may_be_changed_in_place(output, monkeypatch):
    output.begin()
    monkeypatch.setitem(LOGGING_CONFIG["formatters"]["default"], "fmt", "mine: %(message)s")
    configure(Config("a:b"))
    logging.getLogger("pounce.error").info("hello")
    assert output[1].getvalue() == "mine: hello\n"


@pytest.mark.parametrize("colours", [False, True])
def test_the_short_cut_and_the_long_way_write_the_same(output, colours):
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


def test_lines_of_a_turn_are_written_in_one_call(output):
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
def test_any_other_configuration_gets_ordinary_records(output, number):
    output.begin()
    configure(Config("a:b"))
    log = AccessLog()
    assert log.record("c", "GET", "/", "1.1", 200)
    list(changes())[number]()
    log.flush()  # noticed here at the latest
    before = output[0].getvalue()
    assert not log.record("c", "GET", "/", "1.1", 200)
    log.flush()
    if number in (6, 7):  # not to be written at all
        assert output[0].getvalue() == before


def test_a_library_that_replaces_logging_s_methods_sees_every_record(output, monkeypatch):
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


def test_access_records_have_uvicorns_arguments_in_order():
    configure(Config("a:b", log_config=None))
    got = records()
    logging.getLogger("pounce.access").setLevel(logging.INFO)
    rig = Rig(hello, access_log=True, root_path="/api")
    rig.connect().ask(GET.replace(b"/ ", b"/a%20b?c=d ", 1))
    (record,) = got
    assert record.args == ("192.0.2.1:4711", "GET", "/api/a%20b?c=d", "1.1", 200)
    assert record.getMessage() == '192.0.2.1:4711 - "GET /api/a%20b?c=d HTTP/1.1" 200'


def test_without_an_access_log_nothing_is_recorded(output):
    output.begin()
    configure(Config("a:b", access_log=False))
    rig = Rig(hello, access_log=False)
    rig.connect().ask(GET)
    assert output[0].getvalue() == ""
    assert not rig.worker._request_log.enabled


def test_a_broken_log_does_not_break_the_server(output):
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
def test_the_level(output, level):
    output.begin()
    configure(Config("a:b", log_level=level))
    logging.getLogger("pounce.error").info("no")
    logging.getLogger("pounce.error").warning("yes")
    assert output[1].getvalue() == "WARNING:  yes\n"
    assert not logging.getLogger("pounce.access").isEnabledFor(logging.INFO)


def test_trace_is_a_level_of_its_own(output):
    output.begin()
    configure(Config("a:b", log_level="trace"))
    logging.getLogger("pounce.error").log(TRACE, "fine")
    assert output[1].getvalue() == "TRACE:    fine\n"


def test_colours_only_where_somebody_sees_them(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr(sys, "stderr", Terminal())
    assert DefaultFormatter().use_colors
    assert not DefaultFormatter(use_colors=False).use_colors
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert not DefaultFormatter().use_colors


def test_a_configuration_written_for_uvicorn_works_with_the_names_changed(output):
    output.begin()
    text = json.dumps(LOGGING_CONFIG).replace("pounce.logging", "uvicorn.logging").replace('"pounce', '"uvicorn')
    configure(Config("a:b", log_config=json.loads(text.replace("uvicorn", "pounce"))))
    logging.getLogger("pounce.error").info("hello")
    assert output[1].getvalue() == "INFO:     hello\n"


INI = """\
[loggers]
keys=root,pounce
[handlers]
keys=out
[formatters]
keys=plain
[logger_root]
handlers=
[logger_pounce]
qualname=pounce
level=INFO
handlers=out
propagate=0
[handler_out]
class=StreamHandler
args=(sys.stderr,)
formatter=plain
[formatter_plain]
format=INI %(message)s
"""


PLAIN = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"plain": {"format": "FILE %(message)s"}},
    "handlers": {"out": {"class": "logging.StreamHandler", "stream": "ext://sys.stderr", "formatter": "plain"}},
    "loggers": {"pounce": {"handlers": ["out"], "level": "INFO", "propagate": False}},
}


TOML = """
version = 1
disable_existing_loggers = false
formatters.plain.format = "FILE %(message)s"
handlers.out = { class = "logging.StreamHandler", stream = "ext://sys.stderr", formatter = "plain" }
loggers.pounce = { handlers = ["out"], level = "INFO", propagate = false }
"""


@pytest.mark.parametrize("kind", ["ini", "json", "toml", "yaml"])
def test_configuration_files(output, tmp_path, kind):
    output.begin()
    if kind == "yaml":
        pytest.importorskip("yaml", reason="PyYAML has no wheel for this interpreter")
    texts = {"ini": INI, "json": json.dumps(PLAIN), "toml": TOML, "yaml": json.dumps(PLAIN)}  # JSON is YAML
    path = tmp_path / f"log.{kind}"
    path.write_text(texts[kind])
    configure(Config("a:b", log_config=str(path)))
    logging.getLogger("pounce.error").info("hello")
    assert output[1].getvalue() == f"{'INI' if kind == 'ini' else 'FILE'} hello\n"


@pytest.mark.parametrize(
    ("name", "text"),
    [("log.json", "{"), ("log.json", '{"version": 2}'), ("log.ini", "nonsense"), ("log.toml", "= 1")],
)
def test_a_configuration_file_that_cannot_be_used_is_named(tmp_path, name, text):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        configure(Config("a:b", log_config=str(path)))
    assert str(caught.value).startswith(f"--log-config: {path}: ")
    assert "\n" not in str(caught.value)


def test_yaml_without_its_library_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "yaml", None)
    path = tmp_path / "log.yaml"
    path.write_text("version: 1\n")
    with pytest.raises(ConfigError, match=r"pip install 'pounce-asgi\[yaml\]'"):
        configure(Config("a:b", log_config=str(path)))


def test_the_access_log_of_a_real_server_is_complete_when_it_ends():
    with Running("plain:app", "--port", "0") as server:
        for number in range(20):
            get(server.address, f"/{number}")
        server.stop()
        for number in range(20):
            assert f'"GET /{number} HTTP/1.1" 200 OK' in server.log


class BrokenHandler(logging.Handler):
    def emit(self, record):
        raise RecursionError("in a handler")


# Found by reading the code.
@pytest.mark.parametrize("name", ["pounce", "pounce.error", "pounce.access"])
def test_a_log_handler_that_raises_breaks_no_request(name, monkeypatch, caplog, capsys):
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
