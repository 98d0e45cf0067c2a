"""Proxies from Debian, each a process in the foreground, with the files of examples/deploy."""

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.deploy.clients import connect
from tests.deploy.examples import Change, changed
from tests.support.requirements import tool
from tests.support.services import ended, free_port


@dataclass
class Place:
    """A folder that every user may enter, because httpd gives up its rights, with a certificate of example.com."""

    folder: Path

    @property
    def chain(self) -> Path:
        return self.folder / "example.com.pem"

    @property
    def key(self) -> Path:
        return self.folder / "example.com.key"

    @property
    def both(self) -> Path:
        """Certificate and key in one file."""
        return self.folder / "both.pem"

    def make_certificate(self) -> None:
        subprocess.run(
            [tool("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
             "-days", "2", "-subj", "/CN=example.com", "-addext", "subjectAltName=DNS:example.com",
             "-keyout", self.key, "-out", self.chain],
            check=True, capture_output=True, timeout=60,
        )  # fmt: skip
        self.both.write_bytes(self.chain.read_bytes() + self.key.read_bytes())

    def subfolder(self, name: str) -> Path:
        number = len(list(self.folder.iterdir()))
        folder = self.folder / f"{number}-{name}"
        folder.mkdir()
        return folder


@contextlib.contextmanager
def running(
    folder: Path, port: int, *arguments: str | Path, env: dict[str, str] | None = None, tls: bool = False
) -> Iterator[int]:
    """Its port, when it is open. `tls`: and has a certificate."""
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen(
            arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=folder, env={**os.environ, **(env or {})}
        )
    with ended(process):
        end = time.monotonic() + 30
        while True:
            assert process.poll() is None, (folder / "log").read_text()
            with contextlib.suppress(OSError), connect(port, tls):
                break
            assert time.monotonic() < end, (folder / "log").read_text()
            time.sleep(0.01)
        yield port


def nginx(place: Place, upstream: str, *changes: Change) -> contextlib.AbstractContextManager[int]:
    port, folder = free_port(), place.subfolder("nginx")
    moves = [
        ("server 127.0.0.1:8000", f"server {upstream}"),
        ("listen 443", f"listen 127.0.0.1:{port}"),
        ("listen 80", f"listen 127.0.0.1:{free_port()}"),
        ("/etc/ssl/example.com.pem", str(place.chain)),
        ("/etc/ssl/example.com.key", str(place.key)),
    ]
    (folder / "pounce.conf").write_text(changed("nginx.conf", changes, moves))
    paths = "".join(
        f"{name}_temp_path {folder / name};\n" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    user = "user root;\n" if os.geteuid() == 0 else ""
    (folder / "main.conf").write_text(
        f"{user}daemon off;\nworker_processes 1;\npid {folder / 'pid'};\nevents {{ worker_connections 256; }}\n"
        f"http {{\naccess_log off;\n{paths}include {folder / 'pounce.conf'};\n}}\n"
    )
    return running(folder, port, tool("nginx"), "-p", folder, "-e", "stderr", "-c", folder / "main.conf")


def haproxy(place: Place, upstream: str, *changes: Change) -> contextlib.AbstractContextManager[int]:
    port, folder = free_port(), place.subfolder("haproxy")
    moves = [
        ("server one 127.0.0.1:8000", f"server one {upstream}"),
        ("bind :443", f"bind 127.0.0.1:{port}"),
        ("bind :80", f"bind 127.0.0.1:{free_port()}"),
        ("/etc/haproxy/example.com.pem", str(place.both)),
    ]
    (folder / "haproxy.cfg").write_text(changed("haproxy.cfg", changes, moves))
    return running(folder, port, tool("haproxy"), "-db", "-f", folder / "haproxy.cfg")


MODULES = "mpm_event authz_core socache_shmcb ssl headers alias proxy proxy_http".split()  # noqa: SIM905


def apache(place: Place, upstream: str, *changes: Change) -> contextlib.AbstractContextManager[int]:
    port, plain, folder = free_port(), free_port(), place.subfolder("apache")
    moves = [
        ("http://127.0.0.1:8000/", upstream if "|" in upstream else f"http://{upstream}/"),
        ("*:443", f"127.0.0.1:{port}"),
        ("*:80", f"127.0.0.1:{plain}"),
        ("/etc/ssl/example.com.pem", str(place.chain)),
        ("/etc/ssl/example.com.key", str(place.key)),
    ]
    (folder / "pounce.conf").write_text(changed("apache.conf", changes, moves))
    modules = "".join(f"LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so\n" for name in MODULES)
    user = "User www-data\nGroup www-data\n" if os.geteuid() == 0 else ""
    (folder / "main.conf").write_text(
        f"{modules}{user}ServerRoot {folder}\nServerName example.com\nPidFile {folder / 'pid'}\n"
        f"DefaultRuntimeDir {folder}\nErrorLog /dev/stderr\nStartServers 1\nListen 127.0.0.1:{port}\n"
        f"Listen 127.0.0.1:{plain}\nInclude {folder / 'pounce.conf'}\n"
    )
    return running(folder, port, tool("apache2"), "-D", "FOREGROUND", "-f", folder / "main.conf")


def caddy(place: Place, upstream: str, *changes: Change) -> contextlib.AbstractContextManager[int]:
    port, folder = free_port(), place.subfolder("caddy")
    moves = [
        ("reverse_proxy 127.0.0.1:8000", f"reverse_proxy {upstream}"),
        ("example.com {", f"example.com:{port} {{\n\tbind 127.0.0.1"),
    ]
    # It makes the certificate itself, asks nobody for it, and tells nobody of it.
    settings = "{\n\tadmin off\n\tlocal_certs\n\tskip_install_trust\n\tauto_https disable_redirects\n}\n"
    text = changed("Caddyfile", changes, moves)
    (folder / "Caddyfile").write_text(settings + text)
    home = {name: str(folder) for name in ("HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME")}
    command = (tool("caddy"), "run", "--adapter", "caddyfile", "--config", folder / "Caddyfile")
    return running(folder, port, *command, env=home, tls="http://" not in text)


PROXIES = {"nginx": nginx, "haproxy": haproxy, "apache": apache, "caddy": caddy}
FILES = {"nginx": "nginx.conf", "haproxy": "haproxy.cfg", "apache": "apache.conf", "caddy": "Caddyfile"}
