"""--proxy-protocol behind real proxies: HAProxy and nginx, which connect to Pounce and say who their client is."""

import contextlib
import json
import os
import socket
import ssl
import subprocess
import time

import pytest
from wsproto import ConnectionType, events
from wsproto.connection import Connection

from tests.support.answers import content_of, status_of
from tests.support.requests import GET
from tests.support.requirements import missing, tool
from tests.support.server import Running, ask
from tests.support.services import ended, free_port
from tests.support.websockets import handshake

CLIENT = "127.0.0.7"  # the only connections from there are the client's own

HAPROXY = """
global
    maxconn 200
defaults
    mode {mode}
    timeout connect 5s
    timeout client 30s
    timeout server 30s
    timeout tunnel 30s
frontend all
    bind 127.0.0.1:{port}{tls}
    unique-id-format id-%[src]
    default_backend pounce
{backend}
    server one {server} {send}
"""

NGINX = """
{user}daemon off;
error_log stderr;
pid {folder}/pid;
{modules}
events {{ worker_connections 100; }}
stream {{
    server {{
        listen unix:{folder}/nginx.sock;  # first: what is listed last is open last
        listen 127.0.0.1:{port};
        proxy_pass {server};
        proxy_protocol on;
    }}
}}
"""


@contextlib.contextmanager
def running(folder, port, *command):
    with (
        open(folder / "proxy.log", "wb") as log,
        ended(subprocess.Popen(command, stdout=log, stderr=log, cwd=folder)) as _,
    ):
        end = time.monotonic() + 30
        while True:
            with socket.socket() as sock:
                if sock.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert time.monotonic() < end, (folder / "proxy.log").read_text()
            time.sleep(0.02)
        yield ("127.0.0.1", port)


def haproxy(folder, server, send, mode="http", tls="", backend="backend pounce"):
    port, file = free_port(), folder / "haproxy.cfg"
    file.write_text(HAPROXY.format(mode=mode, port=port, tls=tls, backend=backend, server=server, send=send))
    return running(folder, port, tool("haproxy"), "-db", "-f", file)


def nginx(folder, server):
    port, file, program = free_port(), folder / "nginx.conf", tool("nginx")
    module = "/usr/lib/nginx/modules/ngx_stream_module.so"
    if not os.path.exists(module):
        missing("nginx-stream")
    file.write_text(
        NGINX.format(
            user="user root;\n" if os.geteuid() == 0 else "", folder=folder, port=port, server=server,
            modules=f"load_module {module};",
        )
    )  # fmt: skip
    return running(folder, port, program, "-p", folder, "-e", "stderr", "-c", file)


@pytest.fixture(params=["tcp", "unix"])
def server(request, tmp_path):
    """Pounce at a port and at a Unix socket, and how a proxy calls it."""
    path = str(tmp_path / "pounce.sock")
    where = ["--port", "0"] if request.param == "tcp" else ["--uds", path]
    with Running("proxied:app", *where, "--threads", "2", "--proxy-protocol") as running:
        running.proxied_at = "{}:{}".format(*running.address) if request.param == "tcp" else f"unix:{path}"
        running.haproxied_at = running.proxied_at.replace("unix:", "unix@")
        running.is_unix = request.param == "unix"
        yield running


def seen(address, path="/", wrap=lambda sock: sock):
    """What the application has seen of the client, whose own address is the second part."""
    with socket.create_connection(address, 30, (CLIENT, 0)) as sock:
        own = list(sock.getsockname()[:2])
        with wrap(sock) as sock:
            sock.sendall(f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
            answer = b"".join(iter(lambda: sock.recv(65536), b""))
    assert status_of(answer) == 200
    return json.loads(content_of(answer)), own


@pytest.mark.parametrize("mode", ["http", "tcp"])
@pytest.mark.parametrize("send", ["send-proxy", "send-proxy proxy-v2-options ssl,unique-id,crc32c", "send-proxy-v2"])
def test_haproxy_tells_the_client(tmp_path, server, send, mode):
    with haproxy(tmp_path, server.haproxied_at, send, mode) as address:
        for _ in range(4):
            found, own = seen(address)
            assert (found["client"], found["server"], found["scheme"]) == (own, list(address), "http")
            assert found["proxy"]["version"] == (2 if send.endswith("v2") else 1)
            assert (found["proxy"]["peer"] is None) == server.is_unix


def test_haproxy_tells_what_it_knows_of_tls(tmp_path, server):
    key, chain, both = tmp_path / "key", tmp_path / "chain", tmp_path / "both.pem"
    subprocess.run(
        [tool("openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=alice",
         "-keyout", key, "-out", chain],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    both.write_bytes(chain.read_bytes() + key.read_bytes())
    options = "ssl,cert-cn,ssl-cipher,cert-sig,cert-key,authority,crc32c,unique-id"
    tls = f" ssl crt {both} ca-file {chain} verify optional alpn http/1.1"
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["http/1.1"])
    with haproxy(tmp_path, server.haproxied_at, f"send-proxy-v2 proxy-v2-options {options}", tls=tls) as address:
        for certificate in (False, True):
            if certificate:
                context.load_cert_chain(chain, key)
            found, own = seen(address, wrap=lambda sock: context.wrap_socket(sock, server_hostname="shop.example"))
            proxy = found["proxy"]
            assert (found["client"], found["scheme"]) == (own, "https")
            assert (proxy["alpn"], proxy["authority"]) == ("http/1.1", "shop.example")
            assert proxy["unique_id"] == repr(b"id-127.0.0.7")
            assert proxy["tls"]["version"].startswith("TLSv1.")
            assert proxy["tls"]["client_verified"] is certificate
            assert proxy["tls"].get("client_cn") == ("alice" if certificate else None)
            assert set(proxy["tls"]) >= {"cipher", "signature_algorithm", "key_algorithm"}


@pytest.mark.parametrize("send", ["send-proxy", "send-proxy-v2"])
def test_checks_of_haproxy_without_a_client_are_answered(tmp_path, server, send):
    check = "backend pounce\n    option httpchk GET /check"
    with haproxy(tmp_path, server.haproxied_at, f"{send} check inter 50ms", backend=check) as address:
        line = server.wait_for('"GET /check HTTP/1.0" 200', count=5)
        assert CLIENT not in line
        found, own = seen(address)  # it is not down
        assert found["client"] == own
    assert "Closed a connection" not in server.log


@pytest.mark.parametrize("send", ["send-proxy", "send-proxy-v2"])
def test_a_websocket_through_haproxy_has_the_client(tmp_path, server, send):
    with (
        haproxy(tmp_path, server.haproxied_at, send) as address,
        socket.create_connection(address, 30, (CLIENT, 0)) as sock,
    ):
        sock.sendall(handshake())
        data = b""
        while b"\r\n\r\n" not in data:
            data += sock.recv(65536)
        protocol = Connection(ConnectionType.CLIENT)
        protocol.receive_data(data.partition(b"\r\n\r\n")[2])
        messages = []
        while not messages:
            messages = [event.data for event in protocol.events() if isinstance(event, events.TextMessage)]
            if not messages:
                protocol.receive_data(sock.recv(65536))
        found = json.loads(messages[0])
        assert (found["client"], found["scheme"]) == (list(sock.getsockname()[:2]), "ws")


def test_nginx_tells_the_client(tmp_path, server):
    with nginx(tmp_path, server.proxied_at) as address:
        for _ in range(4):
            found, own = seen(address)
            assert (found["client"], found["server"]) == (own, list(address))
            assert found["proxy"]["version"] == 1


def test_a_client_at_nginxs_unix_socket_is_unknown_and_keeps_the_address_of_nginx(tmp_path, server):
    with nginx(tmp_path, server.proxied_at):
        answer = ask(str(tmp_path / "nginx.sock"), GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        found = json.loads(content_of(answer))
        assert (found["client"] is None) == server.is_unix
        assert found["client"] == found["proxy"]["peer"]
        assert found["proxy"]["client"] is None
