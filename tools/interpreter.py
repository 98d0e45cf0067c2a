"""Finds or installs the Python that Pounce is developed with.

Runs on any Python >= 3.11 with only the standard library, as a new machine has no more. These are tried in order, and
the first one that works is used:

1. $POUNCE_PYTHON                     an explicit choice: used as it is, or an error in one line
2. python3.14t, then python3.15t, on PATH
3. one that 4 or 5 has installed      in the cache; checked before it is used, removed if it is broken
4. uv python install 3.14t            once, with a short timeout: its download host cannot always be reached
5. a free-threaded CPython built from the source package of the distribution (Debian, Ubuntu)
6. any Python >= 3.13 with the GIL    workers are then processes, and a line says so

Nothing on the system changes except the build dependencies of step 5, which are installed only as root or with a sudo
that does not ask. The cache is $POUNCE_CACHE, else $XDG_CACHE_HOME/pounce, else ~/.cache/pounce. It may be removed.
"""

import contextlib
import fcntl
import hashlib
import http.client
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
import urllib.parse
import urllib.request
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn

CACHE = Path(
    os.path.abspath(
        os.environ.get("POUNCE_CACHE")
        or os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "pounce")
    )
)

# What a usable interpreter must be able to import: a build without TLS or SQLite is of no use.
# Prints the base interpreter: a virtual environment may be the one that is about to be made again.
CHECK = """
import sys, ssl, sqlite3, ctypes, zlib, bz2, lzma, select, socket
if sys.version_info >= (3, 14): from compression import zstd
print(*sys.version_info[:2], int(getattr(sys, "_is_gil_enabled", lambda: True)()), sys._base_executable)
"""

BUILD_PACKAGES = ("gcc", "libc6-dev", "make", "pkgconf", "libssl-dev", "zlib1g-dev", "libffi-dev", "libsqlite3-dev",
                  "libbz2-dev", "liblzma-dev", "libreadline-dev", "libncurses-dev", "uuid-dev",
                  "libzstd-dev")  # fmt: skip
# Suites with a newer CPython than that of the running release. "devel" is Ubuntu's name for its next release.
SUITES = {"debian": ("unstable", "testing", "stable"), "ubuntu": ("devel", "resolute", "questing")}
MIRRORS = {"debian": "http://deb.debian.org/debian", "ubuntu": "http://archive.ubuntu.com/ubuntu"}
FREE_THREADED = ("python3.14t", "python3.15t")  # on PATH, in this order
UV_TIMEOUT = 180.0  # seconds: for an interpreter over a slow line; a host that does not answer takes 15
DISK_SPACE = 600 << 20  # bytes: for indexes, archive, sources, objects and the installation at once
GAVE_UP = CACHE / "no-free-threaded-python"
DAY = 86400.0  # seconds
OLDEST = (3, 13)


class Failed(Exception):
    """A step has failed; the text says what was tried and, where there is something to do, what to do."""


class Interpreter(NamedTuple):
    path: Path
    version: tuple[int, int]
    gil: bool

    @property
    def tag(self) -> str:
        return f"{self.version[0]}.{self.version[1]}{'' if self.gil else 't'}"


def say(text: str) -> None:
    print("pounce: " + text, file=sys.stderr, flush=True)


def fail(text: str) -> NoReturn:
    say(text)
    raise SystemExit(1)


def output(
    command: Sequence[str | Path],
    timeout: float | None = None,
    env: dict[str, str] | None = None,
    cwd: Path | None = None,
    shielded: bool = False,
) -> str:
    """The output of a command. Raises Failed, with its last line, when it fails or takes longer than `timeout` seconds.
    A shielded command is not interrupted by Ctrl-C: it ends first."""
    try:
        with subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(env or {})},
            cwd=cwd,
            process_group=0 if shielded else None,
            text=True,
            errors="replace",
        ) as child:
            try:
                text, _ = child.communicate(timeout=timeout)
            except subprocess.TimeoutExpired:
                child.kill()
                raise Failed(f"timed out after {timeout:.0f} s") from None
            except KeyboardInterrupt:
                child.communicate()  # Ctrl-C has ended it too, unless it is shielded
                raise
    except OSError as error:
        raise Failed(str(error)) from None
    if child.returncode:
        raise Failed((text.strip() or f"exit status {child.returncode}").splitlines()[-1].strip())
    return text


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """A second `make` waits for the first instead of building too. The kernel releases the lock of a killed one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"another set-up is running, waiting for it ({path})")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def scratch(kind: str, parent: Path = CACHE) -> Iterator[Path]:
    """A temporary folder, used under a lock. A finished result is renamed out of it, so that nothing incomplete is ever
    in place. Folders of killed runs are removed first."""
    for old in parent.glob(f"{kind}-*"):
        shutil.rmtree(old, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=f"{kind}-", dir=parent, ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def probe(python: str | Path) -> Interpreter:
    """Describes an interpreter. Raises Failed, with the reason, if it is missing, broken or lacks a module of CHECK."""
    try:
        major, minor, gil, path = output([python, "-I", "-c", CHECK], timeout=60).splitlines()[-1].split(maxsplit=3)
        return Interpreter(Path(path), (int(major), int(minor)), gil == "1")
    except (IndexError, ValueError):
        raise Failed("it does not behave like a Python") from None


def find() -> Interpreter:
    """The interpreter to use. Exits with one line when there is none."""
    chosen = os.environ.get("POUNCE_PYTHON")
    if chosen:
        try:
            python = probe(shutil.which(chosen) or chosen)
        except Failed as reason:
            fail(f"POUNCE_PYTHON={chosen} does not work ({reason}): correct or unset it")
        if python.version < OLDEST:
            fail(f"POUNCE_PYTHON={chosen} is Python {python.tag}, older than 3.13: correct or unset it")
        return python
    with locked(CACHE / "interpreter.lock"):
        making = () if gave_up() else (from_uv, from_distribution)
        for step in (on_path, cached, *making, with_gil):
            try:
                if found := step():
                    return found
            except Failed as reason:
                say(str(reason))
    fail("no Python >= 3.13 found or made: install one (https://docs.astral.sh/uv), name it in POUNCE_PYTHON")


def gave_up() -> bool:
    """Have steps 4 and 5 failed within the last day? Trying again would take as long."""
    try:
        return time.time() - GAVE_UP.stat().st_mtime < DAY
    except OSError:
        return False


def on_path() -> Interpreter | None:
    for path in filter(None, map(shutil.which, FREE_THREADED)):
        try:
            return probe(path)
        except Failed as reason:
            say(f"{path} does not work ({reason}): going on without it")
    return None


def cached() -> Interpreter | None:
    for python in (*CACHE.glob("uv-python/*/bin/python3.14t"), *CACHE.glob("cpython-*t/bin/python3.1?t")):
        try:
            return probe(python)
        except Failed as reason:
            say(f"{python} is broken ({reason}): removing it")
            shutil.rmtree(python.parent.parent, ignore_errors=True)
    return None


def from_uv() -> Interpreter | None:
    program = uv()
    say("installing a free-threaded Python 3.14 (uv python install 3.14t)")
    env = {
        "UV_PYTHON_INSTALL_DIR": str(CACHE / "uv-python"),
        "UV_PYTHON_INSTALL_BIN": "0",
        "UV_HTTP_RETRIES": "0",
        "UV_HTTP_TIMEOUT": "15",
    }
    try:
        output([program, "python", "install", "3.14t"], UV_TIMEOUT, env)
    except Failed as reason:
        raise Failed(f"uv cannot download it ({reason}): going on without; python3.14t on PATH would be used") from None
    return cached()


def uv() -> Path:
    """The path of uv: on PATH, else from PyPI into the cache, by pip where it is installed (it knows the mirror and the
    certificates of the machine), else directly. Exits with one line when neither works, as nothing runs without uv."""
    os.environ.setdefault("UV_CACHE_DIR", str(CACHE / "uv-cache"))
    os.environ.setdefault("UV_SYSTEM_CERTS", "1")  # trust the authorities that the system trusts, also a company's own
    home = CACHE / "uv"
    with locked(CACHE / "uv.lock"):
        for program in filter(None, (shutil.which("uv"), home / "bin" / "uv")):
            with contextlib.suppress(Failed):
                output([program, "pip", "install", "--group", "dev", "--help"])  # an old uv does not know groups
                return Path(program)
        say(f"installing uv from PyPI into {home}")
        pip = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-input",
               "--root-user-action=ignore", "--retries=0", "--timeout=15"]  # fmt: skip
        with scratch("fetching") as folder:
            fresh = folder / "uv"
            try:
                try:
                    output([*pip, "--target", fresh, "uv"])
                except Failed:
                    uv_from_pypi(fresh)
                output([fresh / "bin" / "uv", "--version"])
            except Failed as reason:
                fail(f"cannot get uv from PyPI ({reason}): install it and put it on PATH, or repair the network")
            shutil.rmtree(home, ignore_errors=True)
            fresh.rename(home)
    return home / "bin" / "uv"


def uv_from_pypi(into: Path) -> None:
    machine, (libc, _) = platform.machine(), platform.libc_ver()
    system = {"Linux": "manylinux" if libc == "glibc" else "musllinux", "Darwin": "macosx"}.get(platform.system(), "?")
    try:
        with urllib.request.urlopen("https://pypi.org/pypi/uv/json", timeout=30) as answer:
            index, files = answer.url, json.load(answer)["urls"]
        file = next(f for f in files if re.search(rf"-{system}_.*{machine}\.whl$", f["filename"]))
        with urllib.request.urlopen(urllib.parse.urljoin(index, file["url"]), timeout=60) as answer:
            wheel = answer.read()
    except StopIteration:
        raise Failed(f"no uv for {platform.system()} {machine} there") from None
    except (OSError, http.client.HTTPException, ValueError) as error:  # ValueError: it was no JSON
        raise Failed(str(error)) from None
    if hashlib.sha256(wheel).hexdigest() != file["digests"]["sha256"]:
        raise Failed("the file does not match its SHA-256")
    program = into / "bin" / "uv"
    program.parent.mkdir(parents=True)
    with zipfile.ZipFile(io.BytesIO(wheel)) as archive:
        program.write_bytes(archive.read(next(name for name in archive.namelist() if name.endswith("/scripts/uv"))))
    program.chmod(0o755)


def distribution() -> str | None:
    """The family of this system's distribution, if its packages are known here."""
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        return None
    family = next((name for name in (release["ID"], *release.get("ID_LIKE", "").split()) if name in SUITES), None)
    return family if shutil.which("apt-get") else None


def from_distribution() -> Interpreter | None:
    family = distribution()
    if family is None:
        return None
    if shutil.disk_usage(CACHE).free < DISK_SPACE:
        raise Failed(f"building CPython needs {DISK_SPACE >> 20} MiB in {CACHE}: make room there, or set POUNCE_CACHE")
    install_build_packages()
    with scratch("building") as folder:
        archive = fetch_source(folder, family)
        build(folder, archive)
    return cached()


def install_build_packages() -> None:
    here = output(["dpkg-query", "-W", "-f", "${db:Status-Status} ${Package}\n"]).splitlines()
    missing = [name for name in BUILD_PACKAGES if f"installed {name}" not in here]
    if not missing:
        return
    say("installing build dependencies: " + " ".join(missing))
    apt = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq", "-oDPkg::Lock::Timeout=120"]
    if os.geteuid() != 0:
        apt = ["sudo", "-n", *apt]
    try:
        with contextlib.suppress(Failed):  # an unreachable source may not matter
            output([*apt, "update"])
        output([*apt, "install", "-y", "--no-install-recommends", *missing], shielded=True)
    except Failed as reason:
        raise Failed(f"they cannot be installed ({reason}); as root: apt-get install {' '.join(missing)}") from None


def fetch_source(folder: Path, family: str) -> Path:
    """The newest source archive of CPython that the mirror has: its index may name files that do not exist."""
    mirror = mirror_of(family)
    say(f"looking for CPython's source package at {mirror}")
    options = private_apt(folder, family, "deb-src")
    for name in ("python3.14", "python3.13"):
        versions: set[str] = set()
        with contextlib.suppress(Failed):
            versions.update(re.findall(r"^Version: (\S+)", output(["apt-cache", *options, "showsrc", name]), re.M))
        for version in sorted(versions, key=lambda text: [int(n) for n in re.findall(r"\d+", text)], reverse=True):
            with contextlib.suppress(Failed):
                source = ["source", "--download-only", "--tar-only", f"{name}={version}"]
                output(["apt-get", *options, *source], cwd=folder)
                return next(folder.glob(f"{name}_*.orig.tar.*"))
            say(f"  {name} {version} is in the index, but cannot be fetched")
    raise Failed(f"{mirror} has no source package of CPython 3.14 or 3.13 to build from: going on without")


def private_apt(folder: Path, family: str, kind: str) -> list[str]:
    """Options with which apt reads the newer suites into lists in `folder`; the lists of the system are not changed.
    `kind` is "deb" or "deb-src". apt checks what it downloads against the signed index."""
    area = "main universe" if family == "ubuntu" else "main"
    source = f"{kind} [signed-by=/usr/share/keyrings/{family}-archive-keyring.gpg] {mirror_of(family)} %s {area}\n"
    (folder / "sources.list").write_text("".join(source % suite for suite in SUITES[family]))
    (folder / "lists" / "partial").mkdir(parents=True)
    private = {
        "Dir::Etc::sourcelist": folder / "sources.list",
        "Dir::Etc::sourceparts": "-",
        "Dir::State::Lists": folder / "lists",
        "Dir::Cache::pkgcache": "",
        "Dir::Cache::srcpkgcache": "",
        "APT::Sandbox::User": "root",
        "Acquire::Retries": 1,
        "Acquire::http::Timeout": 20,
        "APT::Update::Error-Mode": "any",
    }
    options = ["-qq", *(f"-o{name}={value}" for name, value in private.items())]
    try:
        output(["apt-get", *options, "update"])
    except Failed as reason:  # a suite that is missing or outdated on this mirror must not hide the others
        say(f"  not all of its indexes can be used ({reason})")
    return options


def mirror_of(family: str) -> str:
    """The mirror that the system uses: no other one has to be trusted."""
    text = ""
    for path in [Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*"))]:
        with contextlib.suppress(OSError):
            text += path.read_text() + "\n"
    urls = re.findall(r"^(?:URIs:|deb(?:\s+\[[^]]*\])?)\s+(\S+)", text, re.M)
    return next((url for url in urls if url.rstrip("/").endswith("/" + family)), MIRRORS[family])


def build(folder: Path, archive: Path) -> None:
    """configure, make, install, with the default optimisation (-O3). Left out: debugging symbols, a quarter of the
    time; C test modules; ensurepip; and bytecode of the library, which is compiled on import."""
    version = archive.name.split("_")[1].split(".orig")[0]
    prefix, stage, log = CACHE / f"cpython-{version}t", folder / "stage", CACHE / "build.log"
    say(f"building free-threaded CPython {version} into {prefix} (once; about 2 minutes on 2 cores)")
    with tarfile.open(archive) as tar:
        tar.extractall(folder)
    source = next(folder.glob("Python-*/"))
    configure = ["./configure", "--quiet", "--disable-gil", f"--prefix={prefix}", "--without-ensurepip",
                 "--disable-test-modules", "--without-static-libpython", "OPT=-O3"]  # fmt: skip
    # Variables of `make run` are for its own rules.
    env = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS", "PYTHON"))}
    with open(log, "wb") as file:
        for command in (
            configure,
            ["make", "-s", f"-j{os.cpu_count() or 1}"],
            ["make", "-s", "altinstall", f"DESTDIR={stage}", "COMPILEALL_OPTS=-l -j0"],
        ):
            began = time.monotonic()
            done = subprocess.run(command, cwd=source, env=env, stdin=subprocess.DEVNULL, stdout=file, stderr=file)
            if done.returncode:
                raise Failed(f"{' '.join(command[:3])} failed, see {log}: going on without; or set POUNCE_PYTHON")
            say(f"  {' '.join(command[:3])}: {time.monotonic() - began:.0f} s")
    made = Path(f"{stage}{prefix}")
    library = next(made.glob("lib/python3.*/"))
    # --disable-test-modules omits the whole test package; Pounce runs asyncio's tests too.
    shutil.copytree(source / "Lib" / "test", library / "test", dirs_exist_ok=True)
    try:
        probe(made / "bin" / library.name)
    except Failed as reason:
        raise Failed(f"the CPython that was built does not work ({reason}), see {log}: going on without") from None
    shutil.rmtree(prefix, ignore_errors=True)
    made.rename(prefix)


def with_gil() -> Interpreter | None:
    try:
        path = output([uv(), "python", "find", "--system", ">=3.13"], env={"UV_PYTHON_DOWNLOADS": "never"})
    except Failed:
        return None
    python = probe(path.strip())
    if python.gil:
        GAVE_UP.touch()
        say(f"using {python.path}, which has the GIL: workers will be processes (rm {GAVE_UP} to look for another)")
    return python
