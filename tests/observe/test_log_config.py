"""`--log-config`: the default, files of each kind, and configurations that were written for uvicorn."""

import io
import json
import logging
import sys

import pytest

from pounce.config.config import Config
from pounce.errors import ConfigError
from pounce.logging import LOGGING_CONFIG, configure

NAMES = ("pounce", "pounce.error", "pounce.access")


@pytest.fixture(autouse=True)
def _restored():
    """tests/conftest.py restores the other loggers."""
    yield
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "pounce.asgi"):
        logger = logging.getLogger(name)
        logger.handlers, logger.filters, logger.propagate, logger.disabled = [], [], True, False
        logger.setLevel(logging.NOTSET)


# The default


def test_log_config_default_writes_errors_to_stderr_and_accesses_to_stdout(output):
    output.begin()
    configure(Config("a:b"))
    logging.getLogger("pounce.error").info("hello")
    logging.getLogger("pounce.error").warning("careful")
    logging.getLogger("pounce.access").info('%s - "%s %s HTTP/%s" %d', "1.2.3.4:5", "GET", "/a", "1.1", 404)
    assert output[1].getvalue() == "INFO:     hello\nWARNING:  careful\n"
    assert output[0].getvalue() == 'INFO:     1.2.3.4:5 - "GET /a HTTP/1.1" 404 Not Found\n'


def test_log_config_default_sets_up_the_same_as_logging_config(output):
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


def test_logging_config_changed_in_place_is_applied(output, monkeypatch):
    output.begin()
    monkeypatch.setitem(LOGGING_CONFIG["formatters"]["default"], "fmt", "mine: %(message)s")
    configure(Config("a:b"))
    logging.getLogger("pounce.error").info("hello")
    assert output[1].getvalue() == "mine: hello\n"


# Files

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
def test_log_config_file_of_each_kind_is_applied(output, tmp_path, kind):
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
def test_log_config_file_that_is_invalid_is_one_line_that_names_it(tmp_path, name, text):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        configure(Config("a:b", log_config=str(path)))
    assert str(caught.value).startswith(f"--log-config: {path}: ")
    assert "\n" not in str(caught.value)


def test_log_config_yaml_without_pyyaml_names_the_extra_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "yaml", None)
    path = tmp_path / "log.yaml"
    path.write_text("version: 1\n")
    with pytest.raises(ConfigError, match=r"pip install 'pounce-asgi\[yaml\]'"):
        configure(Config("a:b", log_config=str(path)))


# Written for uvicorn


def test_log_config_of_uvicorn_with_its_names_replaced_by_pounces_is_applied(output):
    output.begin()
    text = json.dumps(LOGGING_CONFIG).replace("pounce.logging", "uvicorn.logging").replace('"pounce', '"uvicorn')
    configure(Config("a:b", log_config=json.loads(text.replace("uvicorn", "pounce"))))
    logging.getLogger("pounce.error").info("hello")
    assert output[1].getvalue() == "INFO:     hello\n"


class Dropping(logging.Filter):
    def filter(self, record):
        return "/health" not in record.getMessage()


def for_uvicorn():
    text = json.dumps(LOGGING_CONFIG).replace("pounce", "uvicorn")
    config = json.loads(text)
    config["formatters"]["default"]["fmt"] = "mine %(levelprefix)s %(message)s"
    config["filters"] = {"health": {"()": f"{__name__}.Dropping"}}
    config["loggers"]["uvicorn.access"]["filters"] = ["health"]
    return config


UVICORN_INI = """\
[loggers]
keys=root,uvicorn,access
[handlers]
keys=out
[formatters]
keys=plain
[logger_root]
handlers=
[logger_uvicorn]
qualname=uvicorn
level=INFO
handlers=out
propagate=0
[logger_access]
qualname=uvicorn.access
level=INFO
handlers=
[handler_out]
class=StreamHandler
args=(sys.stderr,)
formatter=plain
[formatter_plain]
class=uvicorn.logging.DefaultFormatter
format=mine %(levelprefix)s %(message)s
"""


@pytest.mark.parametrize("kind", ["dict", "json", "ini"])
def test_log_config_for_uvicorns_loggers_is_applied_to_pounces(kind, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    path = tmp_path / f"log.{kind}"
    path.write_text(UVICORN_INI if kind == "ini" else json.dumps(for_uvicorn()))
    configure(Config("a:b", log_config=for_uvicorn() if kind == "dict" else path))
    logging.getLogger("pounce.error").info("hello")
    logging.getLogger("uvicorn.error").info("from the application")
    said = "--log-config: what it says of uvicorn's loggers is applied to pounce's."
    lines = [f"mine INFO:     {text}\n" for text in (said, "hello", "from the application")]
    assert sys.stderr.getvalue() == "".join(lines)
    access = logging.getLogger("pounce.access")
    for path in ("/health", "/other"):
        access.info('%s - "%s %s HTTP/%s" %d', "c", "GET", path, "1.1", 200)
    written = sys.stderr.getvalue() if kind == "ini" else sys.stdout.getvalue()
    assert ("/health" in written) is (kind == "ini")
    assert "/other" in written


def test_log_config_that_names_pounces_loggers_is_not_translated(monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    both = for_uvicorn()
    both["loggers"]["pounce"] = {"handlers": ["default"], "level": "WARNING", "propagate": False}
    both["formatters"]["default"]["()"] = "pounce.logging.DefaultFormatter"
    both["formatters"]["access"]["()"] = "pounce.logging.AccessFormatter"
    configure(Config("a:b", log_config=both))
    assert logging.getLogger("pounce").level == logging.WARNING
    assert "applied" not in sys.stderr.getvalue()
