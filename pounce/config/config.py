"""The options: one frozen `Config` for the whole server, made before anything else and only read afterwards.

Each field has its own description (`Option`). The command line, the environment, the configuration file and
`docs/options.md` are made from it, so that an option is written down once. The fields are those of six classes, by
subject: `ServerOptions`, `ProxyOptions`, `OperationOptions`, `ProtocolOptions`, `LogOptions` and `UvicornOptions`.

Must never be changed after its construction. Owner: none; any thread may read it.
"""

import os
from dataclasses import MISSING, InitVar, dataclass, field, fields
from typing import TYPE_CHECKING, Any, Unpack

from pounce.config import env_file
from pounce.config.bind import Bind, parse_bind
from pounce.config.kinds import Invalid, NotInThisVersion
from pounce.config.log_options import LogOptions
from pounce.config.operation_options import OperationOptions
from pounce.config.option import GROUPS, Option
from pounce.config.protocol_options import ProtocolOptions
from pounce.config.proxy_options import ProxyOptions
from pounce.config.server_options import ServerOptions
from pounce.config.uvicorn_options import UvicornOptions
from pounce.errors import ConfigError
from pounce.protocols.trusted import DEFAULT as DEFAULT_PROXIES

if TYPE_CHECKING:
    from pounce.config.keywords import ConfigOptions


@dataclass(frozen=True, kw_only=True)
class Config(ServerOptions, ProxyOptions, OperationOptions, ProtocolOptions, LogOptions, UvicornOptions):
    """Every option of the server. Times are seconds, sizes are bytes, None means "no limit" or "off".

    The keywords of uvicorn's `Config` are among the fields. `threads` is another name for `workers`. The defaults of
    options that are not given are the ones in `docs/options.md`; environment variables and files of options are read
    only by the command line, except WEB_CONCURRENCY and FORWARDED_ALLOW_IPS. Raises ConfigError for an invalid value.
    """

    app: Any = field(kw_only=False)
    """An import string `module:attribute`, or the application itself."""

    threads: InitVar[int | str | None] = None
    """Another name for `workers`."""

    if TYPE_CHECKING:  # more types are accepted than a field has afterwards

        def __init__(self, app: Any, **options: Unpack[ConfigOptions]) -> None: ...

    def __post_init__(self, threads: int | str | None) -> None:
        if threads is not None:
            self._set("workers", threads)
        for name, spec in OPTIONS.items():
            value = getattr(self, name)
            try:
                self._set(name, spec.kind.check(value))
            except NotInThisVersion as error:
                raise ConfigError(f"{name}: {error}") from None
            except Invalid as error:
                keyword = "threads" if name == "workers" and threads is not None else name
                raise ConfigError(f"{keyword}={value!r} is {error}") from None
        if self.workers is None:
            self._set("workers", self._web_concurrency())
        if self.forwarded_allow_ips is None:
            self._set("forwarded_allow_ips", self._trusted_proxies())
        if self.forwarded_prefix and self.forwarded_header != "x-forwarded":
            raise ConfigError("forwarded_prefix needs forwarded_header=x-forwarded: no other field has a prefix")
        if self.forwarded_host and self.forwarded_header == "off":
            raise ConfigError("forwarded_host needs forwarded_header=x-forwarded or forwarded")
        if self.h11_max_incomplete_event_size is not None:
            if self.limit_request_head == DEFAULTS["limit_request_head"]:
                self._set("limit_request_head", self.h11_max_incomplete_event_size)
            if self.limit_request_target == DEFAULTS["limit_request_target"]:
                self._set("limit_request_target", max(self.limit_request_target, self.h11_max_incomplete_event_size))
        if self.limit_queue and self.limit_concurrency is None:
            raise ConfigError("limit_queue needs limit_concurrency: requests wait in the queue until fewer are running")
        graceful = self.timeout_graceful_shutdown
        if graceful is not None and self.timeout_websocket_drain > graceful:
            raise ConfigError(
                "timeout_websocket_drain must not be longer than timeout_graceful_shutdown, which ends everything: "
                "set that to as many seconds, or to off"
            )

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)

    def _web_concurrency(self) -> int | None:
        """The number of workers that a platform sets, in the environment or in the file that is added to it."""
        text, source = os.environ.get("WEB_CONCURRENCY"), "WEB_CONCURRENCY"
        if not text and self.env_file:
            text, source = env_file.value(self.env_file, "WEB_CONCURRENCY"), f"{self.env_file}: WEB_CONCURRENCY"
        return parsed("workers", text, source) if text else None

    def _trusted_proxies(self) -> Any:
        """The proxies that a platform names. As with uvicorn, a variable that is empty trusts nobody."""
        text, source = env_file.variable(self.env_file, "FORWARDED_ALLOW_IPS")
        return DEFAULT_PROXIES if text is None else parsed("forwarded_allow_ips", text, source)

    @property
    def should_reload(self) -> bool:
        """Is the application loaded again when its files change? Only one that can be imported again is, as with
        uvicorn."""
        return isinstance(self.app, str) and self.reload

    @property
    def is_ssl(self) -> bool:
        """For programs that ask uvicorn's Config."""
        return False

    def admin_binds(self) -> list[Bind]:
        """The address of the admin listener, if there is one."""
        if self.admin is None:
            return []
        return [parse_bind(self.admin)._replace(source=f"--admin {self.admin}", private=True)]

    @property
    def names_address(self) -> bool:
        """Does an option say where to listen?"""
        return any(getattr(self, name) != DEFAULTS[name] for name in ("host", "port", "uds", "fd", "bind"))

    def binds(self) -> list[Bind]:
        """The addresses to listen at. `bind` comes first, then uvicorn's order of precedence: `fd`, `uds`, `host`."""
        if self.bind:
            found = [parse_bind(text) for text in self.bind]
        elif self.fd is not None:
            found = [Bind(f"--fd {self.fd}", fd=self.fd)]
        elif self.uds is not None:
            found = [Bind(f"--uds {self.uds}", path=self.uds)]
        else:
            found = [Bind(f"--host {self.host} --port {self.port}", host=self.host, port=self.port)]
        mode = None if self.umask is None else 0o666 & ~self.umask
        return [bind._replace(mode=mode) for bind in found]


def _options() -> dict[str, Option]:
    found: dict[str, Option] = {}
    for f in fields(Config):
        if "option" in f.metadata:
            spec: Option = f.metadata["option"]
            found[f.name] = spec._replace(flags=spec.flags or ("--" + f.name.replace("_", "-"),))
    return dict(sorted(found.items(), key=lambda item: GROUPS.index(item[1].group)))


OPTIONS = _options()
DEFAULTS: dict[str, Any] = {f.name: f.default for f in fields(Config) if f.default is not MISSING}
delattr(Config, "threads")  # only a parameter of the constructor


def checked(name: str, value: Any, source: str) -> Any:
    """The value in the option's form. Raises ConfigError, with a text that names `source`."""
    if name == "app":
        if not isinstance(value, str):
            raise ConfigError(f"{source}: {value!r} is not text, as module:attribute")
        return value
    try:
        return OPTIONS[name].kind.check(value)
    except NotInThisVersion as error:
        raise ConfigError(f"{source}: {error}") from None
    except Invalid as error:
        raise ConfigError(f"{source}: {value!r} is {error}") from None


def parsed(name: str, text: str, source: str) -> Any:
    """The same for a value that is text."""
    spec = OPTIONS[name]
    return checked(
        name, [*map(spec.kind.parse, spec.kind.split(text))] if spec.multiple else spec.kind.parse(text), source
    )
