"""Finds, or makes, the Python that Pounce is developed with.

Runs on any Python >= 3.11, with nothing but its standard library, because that is what a fresh machine has.
Tries in this order, and stops at the first that answers:

1. $POUNCE_PYTHON                     the person's own choice: taken as it is, or refused in one line
2. one made earlier                   in the cache, checked before it is used, removed if broken
3. python3.14t on PATH
4. uv python install 3.14t            once, with a short time-out: its download host is not always in reach
5. a free-threaded CPython built from the distribution's own source package (Debian, Ubuntu)
6. any Python >= 3.13 with the GIL    the workers are then processes, and the person is told so

Nothing on the system changes but the build dependencies of step 5, and those only as root.
The cache is $POUNCE_CACHE, else $XDG_CACHE_HOME/pounce, else ~/.cache/pounce.
"""

import contextlib
import fcntl
import hashlib
import io
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.request
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn

CACHE = Path(
    os.environ.get("POUNCE_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pounce"
)

# What a usable interpreter must be able to import; a build without TLS or SQLite helps nobody.
CHECK = """
import sys, ssl, sqlite3, ctypes, zlib, bz2, lzma, select, socket
if sys.version_info >= (3, 14): from compression import zstd
print(sys.version_info[0], sys.version_info[1], int(getattr(sys, "_is_gil_enabled", lambda: True)()))
"""

BUILD_PACKAGES = ("gcc", "make", "pkgconf", "libssl-dev", "zlib1g-dev", "libffi-dev", "libsqlite3-dev", "libbz2-dev",
                  "liblzma-dev", "libreadline-dev", "libncurses-dev", "uuid-dev", "libzstd-dev")  # fmt: skip
# Newest first. Ubuntu has no suite names of Debian's kind; "devel" is its newest, the rest are releases.
SUITES = {
    "debian": ("sid", "testing", "stable", "trixie"),
    "ubuntu": ("devel", "resolute", "questing", "plucky"),
}
SOURCE_VERSIONS = ("3.14", "3.13")
UV_TIMEOUT = 180.0  # seconds: a whole interpreter over a slow line, or a host that never answers


class Failed(Exception):
    """One step did not work; the text says what was tried and what the person can do."""


def say(text: str) -> None:
    print("pounce: " + text, file=sys.stderr, flush=True)


def fail(text: str) -> NoReturn:
    say(text)
    raise SystemExit(1)


def describe(python: Path) -> tuple[int, int, bool] | None:
    """(major, minor, has the GIL) of a working interpreter, None of one that is missing or broken."""
    try:
        out = subprocess.run(
            [str(python), "-c", CHECK],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=60,
            env={k: v for k, v in os.environ.items() if not k.startswith("PYTHON")},
        )
        major, minor, gil = out.stdout.split()
        return int(major), int(minor), gil == b"1"
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None


def find() -> Path:
    """The interpreter to use; exits with one line when there is none."""
    chosen = os.environ.get("POUNCE_PYTHON")
    if chosen:
        path = shutil.which(chosen)
        about = path and describe(Path(path))
        if not path or not about or about < (3, 13):
            fail(f"POUNCE_PYTHON={chosen} is not a working Python >= 3.13 with ssl and sqlite3: correct or unset it")
        return Path(path)
    CACHE.mkdir(parents=True, exist_ok=True)
    with locked(CACHE / "interpreter.lock"):
        for step in (cached, on_path, from_uv, from_debian_source, with_gil):
            try:
                python = step()
            except Failed as reason:
                say(str(reason))
                continue
            if python:
                return python
    fail(
        "no Python >= 3.13 found or made: install one (https://docs.astral.sh/uv, or your distribution's "
        "python3.14-nogil) and name it in POUNCE_PYTHON"
    )


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Two `make` at once wait for each other instead of building twice."""
    with open(path, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"another set-up is running, waiting for it ({path})")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def cached() -> Path | None:
    made = [
        *CACHE.glob("cpython-*t/bin/python3.1?t"),
        *CACHE.glob("uv-python/cpython-3.14*freethreaded*/bin/python3.14t"),
    ]
    for python in sorted(made, key=lambda p: p.name, reverse=True):
        about = describe(python)
        if about and not about[2]:
            return python
        say(f"{python} is broken, removing it")
        shutil.rmtree(python.parent.parent, ignore_errors=True)
    return None


def on_path() -> Path | None:
    path = shutil.which("python3.14t")
    if path and describe(Path(path)):
        return Path(path)
    return None


def uv() -> Path:
    """uv from PATH, else from PyPI into the cache: by pip where there is one (it knows the person's mirror and
    certificates), else straight from PyPI."""
    path = shutil.which("uv")
    if path and quiet([path, "--version"]):
        return Path(path)
    home = CACHE / "uv"
    binary = home / "bin" / "uv"
    if binary.exists() and quiet([str(binary), "--version"]):
        return binary
    shutil.rmtree(home, ignore_errors=True)
    say(f"installing uv from PyPI into {home}")
    fresh = Path(tempfile.mkdtemp(prefix="uv-", dir=CACHE))
    try:
        pip = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-input"]
        if not quiet([*pip, "--root-user-action=ignore", "--target", str(fresh), "uv"]):
            uv_from_pypi(fresh)
        if not quiet([str(fresh / "bin" / "uv"), "--version"]):
            raise Failed("uv was fetched from PyPI but does not run here: install uv and put it on PATH")
        fresh.rename(home)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return binary


def uv_from_pypi(into: Path) -> None:
    machine, (libc, _) = platform.machine(), platform.libc_ver()
    wanted = {"Linux": "manylinux" if libc == "glibc" else "musllinux", "Darwin": "macosx"}.get(platform.system(), "?")
    try:
        with urllib.request.urlopen("https://pypi.org/pypi/uv/json", timeout=30) as answer:
            files = json.load(answer)["urls"]
        file = next(
            f for f in files if wanted in f["filename"] and machine in f["filename"] and f["filename"].endswith(".whl")
        )
        with urllib.request.urlopen(file["url"], timeout=60) as answer:
            wheel = answer.read()
    except StopIteration:
        raise Failed(f"PyPI has no uv for {platform.system()} {machine}: install uv and put it on PATH") from None
    except OSError as error:
        raise Failed(f"uv cannot be fetched from pypi.org ({error}): install uv or pip, or mend the network") from None
    if hashlib.sha256(wheel).hexdigest() != file["digests"]["sha256"]:
        raise Failed("uv's wheel from pypi.org does not match its SHA-256: try again, or install uv yourself")
    with zipfile.ZipFile(io.BytesIO(wheel)) as archive:
        name = next(n for n in archive.namelist() if n.endswith(".data/scripts/uv"))
        target = into / "bin" / "uv"
        target.parent.mkdir()
        target.write_bytes(archive.read(name))
        target.chmod(0o755)


def from_uv() -> Path | None:
    home = CACHE / "uv-python"
    say("asking uv for a free-threaded Python 3.14 (uv python install 3.14t)")
    env = {**os.environ, "UV_PYTHON_INSTALL_DIR": str(home), "UV_HTTP_RETRIES": "0", "UV_HTTP_TIMEOUT": "15"}
    command = [str(uv()), "python", "install", "--no-bin", "3.14t"]
    try:
        done = subprocess.run(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=UV_TIMEOUT)
    except subprocess.TimeoutExpired:
        raise Failed(f"uv python install 3.14t did not end within {UV_TIMEOUT:.0f} s; going on without it") from None
    if done.returncode:
        last = done.stdout.decode(errors="replace").strip().splitlines() or ["no reason given"]
        raise Failed(f"uv python install 3.14t is out of reach here ({last[-1].strip()}); going on without it")
    return cached()


def from_debian_source() -> Path | None:
    release = read_os_release()
    family = next((name for name in (release.get("ID"), *release.get("ID_LIKE", "").split()) if name in SUITES), None)
    if not family or not shutil.which("apt-get"):
        return None
    root: Sequence[str] = () if os.geteuid() == 0 else ("sudo", "-n")
    missing = [name for name in BUILD_PACKAGES if not installed(name)]
    if missing:
        say("installing build dependencies: " + " ".join(missing))
        env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        install = [*root, "apt-get", "-qq", "-y", "--no-install-recommends", "install", *missing]
        if not quiet([*root, "apt-get", "-qq", "update"], env) or not quiet(install, env):
            raise Failed("cannot install the build dependencies; as root: apt-get install " + " ".join(missing))
    mirror, keyring = mirror_of(family)
    with tempfile.TemporaryDirectory(prefix="pounce-cpython-") as scratch:
        version, archive = fetch_source(Path(scratch), family, mirror, keyring)
        return build(Path(scratch), version, archive)


def read_os_release() -> dict[str, str]:
    try:
        lines = Path("/etc/os-release").read_text().splitlines()
    except OSError:
        return {}
    return {k: v.strip('"') for k, _, v in (line.partition("=") for line in lines)}


def installed(package: str) -> bool:
    done = subprocess.run(
        ["dpkg-query", "-W", "-f", "${Status}", package], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    return done.stdout.endswith(b" installed")


def mirror_of(family: str) -> tuple[str, str]:
    """The mirror and keyring of the system's own sources, so that nothing new has to be trusted."""
    text = ""
    for path in [Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*"))]:
        with contextlib.suppress(OSError):
            text += path.read_text() + "\n"
    urls = re.findall(r"^(?:URIs:|deb(?:\s+\[[^]]*\])?)\s+(\S+)", text, re.M)
    main = [url for url in urls if url.rstrip("/").endswith("/" + family)]
    default = {"debian": "http://deb.debian.org/debian", "ubuntu": "http://archive.ubuntu.com/ubuntu"}[family]
    return (main or [default])[0], f"/usr/share/keyrings/{family}-archive-keyring.gpg"


def fetch_source(scratch: Path, family: str, mirror: str, keyring: str) -> tuple[str, Path]:
    """The newest source package this mirror really has: an index may name files that answer 404.
    apt checks the archive against the signed index."""
    say(f"looking for CPython's source package at {mirror}")
    area = "main universe" if family == "ubuntu" else "main"
    for suite in SUITES[family]:
        place = scratch / suite
        (place / "lists" / "partial").mkdir(parents=True)
        (place / "sources.list").write_text(f"deb-src [signed-by={keyring}] {mirror} {suite} {area}\n")
        quiet([*private_apt(place), "update"])
    for wanted in SOURCE_VERSIONS:
        for suite in SUITES[family]:
            place = scratch / suite
            quiet([*private_apt(place), "source", "--download-only", f"python{wanted}"], cwd=place)
            for archive in place.glob(f"python{wanted}_*.orig.tar.xz"):
                version = archive.name.split("_")[1][: -len(".orig.tar.xz")]
                say(f"found CPython {version} in {suite}")
                return version, archive
    raise Failed(f"{mirror} offers no source package of CPython 3.14 or 3.13; going on without")


def private_apt(place: Path) -> list[str]:
    """apt-get with lists and caches of its own in `place`: the system's stay as they are."""
    options = {
        "Dir::Etc::sourcelist": place / "sources.list",
        "Dir::Etc::sourceparts": "-",
        "Dir::State::Lists": place / "lists",
        "Dir::Cache::pkgcache": "",
        "Dir::Cache::srcpkgcache": "",
        "APT::Sandbox::User": "root",
        "Acquire::Retries": 1,
        "Acquire::http::Timeout": 20,
    }
    return ["apt-get", "-qq", *(f"-o{name}={value}" for name, value in options.items())]


def build(scratch: Path, version: str, archive: Path) -> Path:
    """configure, make, install: without C test modules, documentation and ensurepip, and without compiling the
    whole library to bytecode, which took longer than the rest of the installation."""
    prefix = CACHE / f"cpython-{version}t"
    minor = ".".join(version.split(".")[:2])
    say(f"building free-threaded CPython {version} into {prefix} (4 to 5 minutes on 2 cores, once)")
    with tarfile.open(archive) as tar:
        tar.extractall(scratch)  # checked by apt against the distribution's signature
    source = next(path for path in scratch.glob("Python-*") if path.is_dir())
    stage = CACHE / f"stage-{os.getpid()}"
    log = CACHE / "build.log"
    configure = ["./configure", "--quiet", "--disable-gil", f"--prefix={prefix}", "--without-ensurepip",
                 "--disable-test-modules", "--without-static-libpython"]  # fmt: skip
    # `-l` keeps the installation's bytecode step to the top folder; the rest is compiled when imported.
    install = ["make", "-s", "install", f"DESTDIR={stage}", "COMPILEALL_OPTS=-l -j0", "MANDIR=/tmp"]
    try:
        with open(log, "wb") as output:
            for name, command in (
                ("configure", configure),
                ("make", ["make", "-s", f"-j{os.cpu_count() or 2}"]),
                ("install", install),
            ):
                began = time.monotonic()
                if subprocess.run(
                    command, cwd=source, stdout=output, stderr=output, stdin=subprocess.DEVNULL
                ).returncode:
                    raise Failed(f"building CPython {version} failed in {name}: see {log}; or set POUNCE_PYTHON")
                say(f"  {name}: {time.monotonic() - began:.0f} s")
        made = Path(f"{stage}{prefix}")
        # The interpreter's own test package is left out by --disable-test-modules; asyncio's tests are ours too.
        shutil.copytree(source / "Lib" / "test", made / "lib" / f"python{minor}t" / "test", dirs_exist_ok=True)
        shutil.rmtree(prefix, ignore_errors=True)
        made.rename(prefix)
    finally:
        shutil.rmtree(stage, ignore_errors=True)
    python = prefix / "bin" / f"python{minor}t"
    if describe(python) is None:
        raise Failed(f"the built {python} lacks ssl, sqlite3 or another module: see {log}")
    return python


def with_gil() -> Path | None:
    names = ["python3.15", "python3.14", "python3.13", "python3", "python"]
    found = [Path(path) for path in map(shutil.which, names) if path]
    python = next((path for path in found if (describe(path) or (0, 0)) >= (3, 13)), None)
    if python is None:
        env = {**os.environ, "UV_PYTHON_INSTALL_DIR": str(CACHE / "uv-python"), "UV_HTTP_RETRIES": "0"}
        with contextlib.suppress(subprocess.CalledProcessError, subprocess.TimeoutExpired):
            command = [str(uv()), "python", "find", ">=3.13"]
            out = subprocess.check_output(command, env=env, stderr=subprocess.DEVNULL, timeout=UV_TIMEOUT)
            python = Path(out.decode().strip())
    if python:
        say(f"no free-threaded Python here: using {python}, which has the GIL, so workers will be processes")
    return python


def quiet(command: list[str], env: dict[str, str] | None = None, cwd: Path | None = None) -> bool:
    """Runs a command, shows nothing, says whether it worked."""
    try:
        done = subprocess.run(
            command, env=env, cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
    except OSError:
        return False
    return done.returncode == 0


if __name__ == "__main__":
    print(find())
