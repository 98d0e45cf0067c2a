"""The command line `pounce APP [options]`, made from the options of `Config`.

Must never show a traceback for an error of the operator: it is one line, with uvicorn's exit codes. Owner: the main
thread.
"""

import argparse
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from pounce.config.config import DEFAULTS, OPTIONS, Config
from pounce.config.kinds import suggestion
from pounce.config.option import NOT_YET
from pounce.config.sources import Note, load
from pounce.errors import ConfigError, StartupError, exit_code

if TYPE_CHECKING:
    from pounce.supervisor.restart import Reconfigure


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"pounce: error: {message}\nTry 'pounce --help'.\n")


def parser() -> argparse.ArgumentParser:
    result = Parser(
        prog="pounce",
        usage="pounce APP [options]",
        description="An ASGI server for free-threaded Python.",
        epilog="Each option can also be set as POUNCE_<NAME> in the environment, or in pounce.toml. "
        "For example: pounce main:app --threads auto --host 0.0.0.0 --port 80",
        allow_abbrev=False,
        add_help=False,
        argument_default=argparse.SUPPRESS,
        formatter_class=partial(argparse.HelpFormatter, width=_width()),
    )
    result.add_argument(
        "app",
        nargs="?",
        metavar="APP",
        help="The application, as module:attribute or as its file. "
        "Default: found in main.py, app.py or api.py, in the current folder or in app/.",
    )
    groups: dict[str, Any] = {}
    for name, spec in OPTIONS.items():
        if spec.group not in groups:
            groups[spec.group] = result if spec.group == NOT_YET else result.add_argument_group(spec.group)
        help = argparse.SUPPRESS if spec.group == NOT_YET else describe(name).replace("%", "%%")
        add = partial(groups[spec.group].add_argument, *spec.flags, dest=name, help=help)
        if spec.kind.metavar is None:
            add(action=_Switch, nargs=0)
        else:
            if spec.kind.bare is not None:
                add = partial(add, nargs="?", const=spec.kind.bare)
            add(action=_Values if spec.multiple else _Value, type=spec.kind.parse, metavar=spec.kind.metavar)
    about = result.add_argument_group("about")
    about.add_argument("--version", action=_Version, nargs=0, help="Show the version and exit.")
    about.add_argument("-h", "--help", action="help", help="Show this and exit.")
    return result


def _width() -> int:
    """The width of the help. Without it, each option's formatter would import shutil, and so every compression module,
    to find the terminal's."""
    columns = os.environ.get("COLUMNS", "")
    with contextlib.suppress(OSError):  # not a terminal
        columns = columns or str(os.get_terminal_size().columns)
    return max(40, (int(columns) if columns.isdecimal() else 80) - 2)


class _Version(argparse.Action):
    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        parser.exit(message=version_text() + "\n")


class _Value(argparse.Action):
    """An option and its value. Stores the name that was typed, for errors."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        setattr(namespace, self.dest, values)
        vars(namespace).setdefault("typed", {})[self.dest] = option_string


class _Values(_Value):
    """An option that may be given several times."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        super().__call__(parser, namespace, [*getattr(namespace, self.dest, ()), values], option_string)


class _Switch(_Value):
    """--name and --no-name."""

    def __init__(self, option_strings: Sequence[str], dest: str, **kwargs: Any) -> None:
        names = [*option_strings, *("--no-" + name.removeprefix("--") for name in option_strings)]
        super().__init__(names, dest, **kwargs)

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        super().__call__(parser, namespace, not (option_string or "").startswith("--no-"), option_string)


def describe(name: str) -> str:
    """The help text of an option, with its default."""
    text, default = OPTIONS[name].help, DEFAULTS[name]
    if isinstance(default, bool):
        return f"{text} Default: {'on' if default else 'off'}."
    if default in (None, (), "", "default"):
        return text
    if isinstance(default, tuple):
        default = ",".join(default)
    return f"{text} Default: {default:g}." if isinstance(default, float) else f"{text} Default: {default}."


def version_text() -> str:
    import platform

    from pounce.version import __version__

    implementation, python = platform.python_implementation(), platform.python_version()
    return f"Running pounce {__version__} with {implementation} {python} on {platform.system()}"


def _reject(result: argparse.ArgumentParser, unknown: Sequence[str]) -> NoReturn:
    """Ends with an error about arguments that are not options."""
    word = unknown[0].partition("=")[0]
    if not word.startswith("-"):
        result.error(f"one application is enough: {word!r}")
    known = [flag for action in result._actions if action.help != argparse.SUPPRESS for flag in action.option_strings]
    result.error(f"{word} is not an option{suggestion(word, known)}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the server. Raises SystemExit with uvicorn's codes: 0, 1 (the application cannot be imported), 2
    (usage), 3 (start-up)."""
    _fill_standard_streams()
    sys.exit(serve(*configuration(arguments), reconfigure=lambda: read_configuration(parse(arguments))))


def _fill_standard_streams() -> None:
    """Opens descriptors 0, 1 and 2 if they are closed. Otherwise a socket would get the number, and whatever writes to
    the stream, in C or in a child process, would write to a client."""
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # gets the lowest free number, which is this one


def configuration(arguments: Sequence[str] | None) -> tuple[Config, list[Note]]:
    """The configuration from command line, environment and file, and notes for the log. Raises SystemExit."""
    flags = parse(arguments)
    try:
        return read_configuration(flags)
    except StartupError as error:
        parser().error(str(error))


def parse(arguments: Sequence[str] | None) -> dict[str, Any]:
    """The options of the command line. Raises SystemExit."""
    result = parser()
    given, unknown = result.parse_known_args(arguments)
    if unknown:
        _reject(result, unknown)
    return vars(given)


def read_configuration(flags: dict[str, Any]) -> tuple[Config, list[Note]]:
    """The same from the options of the command line, and what environment and file say now. Raises StartupError."""
    options, notes = load(flags, os.environ, os.getcwd(), flags.pop("typed", {}))
    _find_application(options, notes)
    if "app" not in options:
        raise ConfigError("which application? Give it as module:attribute, for example main:app")
    config = Config(**options)
    notes += _without_effect(config)
    return config, notes


def _find_application(options: dict[str, Any], notes: list[Note]) -> None:
    """Finds the application if the command line names a file instead, or nothing."""
    from pounce.app.discovery import find, names_a_file

    given = options.get("app")
    if given is not None and not names_a_file(given):
        return
    found = find(given, options.get("app_dir", ""))
    if found is None:
        return
    options["app"] = found.app
    options["app_dir"] = found.folder
    notes.append((logging.INFO, f"Application: {found.app}, from {found.folder}"))


def _without_effect(config: Config) -> Iterator[Note]:
    """Notes on options that are accepted and ignored."""
    for name, what in (("loop", "event loop"), ("http", "HTTP parser")):
        if getattr(config, name) != "auto":
            text = f"--{name} {getattr(config, name)}: there is one {what} here, the server's own."
            yield logging.WARNING, text
    if config.ws not in ("auto", "none", "wsproto"):
        yield logging.WARNING, f"--ws {config.ws}: WebSocket is spoken through wsproto here."
    for name in ("forwarded_host", "forwarded_prefix"):
        if getattr(config, name) and not config.proxy_headers:
            yield logging.WARNING, f"{OPTIONS[name].flags[0]} has no effect with --no-proxy-headers."
    senders = "proxy_protocol_allow_ips"
    if getattr(config, senders) != DEFAULTS[senders] and not config.proxy_protocol:
        yield logging.WARNING, "--proxy-protocol-allow-ips has no effect without --proxy-protocol."
    if config.admin_public and config.admin is None:
        yield logging.WARNING, "--admin-public has no effect without --admin."


def serve(config: Config, notes: Sequence[Note] = (), reconfigure: "Reconfigure | None" = None) -> int:
    """Runs a server to its end and returns its exit code. `reconfigure`: see `Server`."""
    from pounce.kernel.task import abandoned
    from pounce.supervisor.inheritance import ONLY_LOAD
    from pounce.supervisor.interpreter_exit import end_interpreter, exit_now, interrupted
    from pounce.supervisor.server import Server

    server = Server(config, notes, may_reexec=True, reconfigure=reconfigure)
    if os.environ.pop(ONLY_LOAD, ""):
        code = server.load_only()
        end_interpreter(code, 0.0, 0.0, forced=True)
        exit_now(code)  # whatever threads the application has started
    code = 0
    try:
        server.run()
    except KeyboardInterrupt:
        code = 0 if server.should_exit else 130  # 130: before the server handled signals itself
    except SystemExit as error:
        code = exit_code(error)
    total = config.timeout_graceful_shutdown
    in_order = end_interpreter(code, server.remaining_grace, total, forced=server.force_exit)
    if server.executes_again and not interrupted():
        return server.execute_again()
    if server.ended_by is not None:
        signal.raise_signal(server.ended_by)
    if server.abandoned_threads or abandoned or not in_order:
        exit_now(code)  # a thread that never ends would keep the interpreter from ending, a coroutine would complain
    return code
