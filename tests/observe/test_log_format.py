"""`--log-format json`: which lines are JSON, and that each is, whatever is logged."""

import io
import json
import logging
import logging.handlers
import queue
import re
import sys

import pytest

from pounce.config.config import Config
from pounce.log_pieces import PIPE_BUF, pieces
from pounce.log_records import access_record
from pounce.logging import LOGGING_CONFIG, AccessFormatter, AccessLog, JSONFormatter, configure

ARGUMENTS = ("1.2.3.4:5", "GET", "/a%20b?c=%s", "1.1", 200)


def lines(stream):
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def configured(output, **options):
    output.begin()
    configure(Config("a:b", log_format="json", **options))
    return output[1]


# Which lines


def test_log_format_json_writes_the_servers_lines_as_objects(output):
    errors = configured(output)
    logging.getLogger("pounce.error").info("hello %s", "you")
    logging.getLogger("pounce.asgi").warning("careful")
    first, second = lines(errors)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", first["time"])
    assert list(first) == ["time", "level", "logger", "message", "process", "thread"]
    assert (first["level"], first["logger"], first["message"]) == ("INFO", "pounce.error", "hello you")
    assert (second["level"], second["logger"], second["message"]) == ("WARNING", "pounce.asgi", "careful")


def test_log_format_json_writes_the_lines_of_an_application_that_configures_nothing(output, monkeypatch):
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # not pytest's
    errors = configured(output)
    logging.getLogger("the.application").warning("careful")
    logging.getLogger("the.application").info("not shown, as by Python itself")
    later = io.StringIO()
    monkeypatch.setattr(sys, "stderr", later)
    logging.getLogger("the.application").error("bad")
    assert [line["message"] for line in (*lines(errors), *lines(later))] == ["careful", "bad"]
    configure(Config("a:b"))
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    logging.getLogger("the.application").warning("as before")
    assert sys.stderr.getvalue() == "as before\n"


def test_log_format_json_leaves_the_applications_own_configuration_alone(output, monkeypatch):
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # not pytest's
    errors = configured(output)
    logging.basicConfig(level="INFO", format="MINE %(message)s", stream=errors)
    logging.getLogger("the.application").info("hello")
    assert errors.getvalue() == "MINE hello\n"


def test_log_format_json_makes_json_the_default_of_access_log_format():
    assert Config("a:b", log_format="json").access_format == "json"
    assert Config("a:b", log_format="json", access_log_format="common").access_format == "common"
    assert Config("a:b").access_format == "uvicorn"


@pytest.mark.parametrize("names", ["pounce", "uvicorn"])
def test_log_format_json_replaces_formatters_of_the_server_in_a_log_config_and_no_others(output, names, monkeypatch):
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # not pytest's
    config = json.loads(json.dumps(LOGGING_CONFIG).replace("pounce", names))
    config["formatters"]["plain"] = {"format": "PLAIN %(message)s"}
    config["handlers"]["plain"] = {"formatter": "plain", "class": "logging.StreamHandler", "stream": "ext://sys.stderr"}
    config["handlers"]["bare"] = {"class": "logging.StreamHandler", "stream": "ext://sys.stderr"}
    config["loggers"][names]["handlers"] = ["default", "plain"]
    config["root"] = {"handlers": ["bare"], "level": "INFO"}
    errors = configured(output, log_config=config)
    logging.getLogger("pounce.error").warning("hello")
    logging.getLogger("the.application").warning("from it")
    found = [line for line in errors.getvalue().splitlines() if "applied to" not in line]
    assert json.loads(found[0])["message"] == "hello"
    assert found[1] == "PLAIN hello"
    assert json.loads(found[2])["message"] == "from it"


def test_log_format_text_again_after_json_is_as_before(output):
    configured(output)
    configure(Config("a:b"))
    logging.getLogger("pounce.error").info("hello")
    assert output[1].getvalue() == "INFO:     hello\n"


# Whatever is logged


def formatted(message="m", args=(), error=None, **extra):
    info = (type(error), error, error.__traceback__) if error is not None else None
    record = logging.getLogger("x").makeRecord("x", 40, "f.py", 1, message, args, info, extra=extra)
    text = JSONFormatter().format(record)
    assert text.isascii()
    assert text.isprintable()
    return json.loads(text)


def test_json_formatter_has_exceptions_stacks_and_extra():
    try:
        raise ValueError("bad\nline")
    except ValueError as error:
        found = formatted(error=error, user=7, tags=["a"], nothing=None)
    assert found["exception"].endswith("ValueError: bad\nline")
    assert (found["user"], found["tags"], found["nothing"]) == (7, ["a"], None)
    record = logging.getLogger("x").makeRecord(
        "x", 20, "f.py", 1, "m", (), None, sinfo="Stack (most recent call last):"
    )
    assert json.loads(JSONFormatter().format(record))["stack"].startswith("Stack")


class Unprintable:
    def __str__(self):
        raise RuntimeError("no")

    __repr__ = __str__


def circle():
    made = {}
    made["self"] = made
    return made


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), {"a": float("nan")}, circle(), Unprintable(), {1, 2}, b"bytes", {(1, 2): 3}]
)
def test_json_formatter_writes_one_json_line_whatever_extra_has(value):
    found = formatted(value=value, beside=1)
    assert found["message"] == "m"
    assert found["beside"] == 1
    assert "value" in found


@pytest.mark.parametrize("text", ['a"b', "a\nb\r\n", "\x1b[31m", "\ud800", "\u2028\u0085", "h\u00e9llo"])
def test_json_formatter_escapes_what_would_end_a_line(text):
    assert formatted(text)["message"] == text.rstrip("\n")


def test_json_formatter_keeps_its_own_members_whatever_extra_is_called():
    found = formatted(time="never", level="none", logger="other")
    assert (found["level"], found["logger"]) == ("ERROR", "x")
    assert found["time"] != "never"


def test_json_formatter_writes_lines_of_the_access_log_that_are_json_as_they_are():
    line = '{"path":"/a%20b"}'
    assert JSONFormatter().format(access_record(line, ARGUMENTS, None)) == line
    assert json.loads(JSONFormatter().format(access_record("GET /", ARGUMENTS, None)))["message"] == "GET /"


# Records of the access log


def test_access_record_shows_its_line_in_copies_that_libraries_make():
    record = access_record("100% of /a%20b", ARGUMENTS, None)
    assert record.args == ARGUMENTS
    for each in (record, logging.makeLogRecord(record.__dict__)):
        assert each.getMessage() == "100% of /a%20b"
        assert logging.Formatter("%(message)s").format(each) == "100% of /a%20b"
        assert AccessFormatter("%(client_addr)s", use_colors=False).format(each) == "100% of /a%20b"


def test_access_record_goes_through_a_queue_as_its_line():
    waiting = queue.SimpleQueue()
    logging.handlers.QueueHandler(waiting).handle(access_record("100%", ARGUMENTS, None))
    assert AccessFormatter("%(client_addr)s", use_colors=False).format(waiting.get()) == "100%"


# Pieces


def test_access_log_writes_pieces_that_a_pipe_takes_whole(output):
    output.begin()
    configure(Config("a:b", access_log_format="json"))
    written = []
    output[0].write = written.append
    log = AccessLog(whole_lines=True)
    made = [f"{number} {'x' * size}\n" for number, size in enumerate([100] * 100 + [PIPE_BUF + 1, 10, PIPE_BUF - 5])]
    log.lines.extend(made)
    log.flush()
    assert "".join(written) == "".join(made)
    assert [len(piece) > PIPE_BUF for piece in written].count(True) == 1
    assert all(piece.endswith("\n") for piece in written)
    assert list(pieces(["a\n", "b\n"])) == ["a\nb\n"]
