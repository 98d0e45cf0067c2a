"""Where the other servers come from: environments of their own below .venv/, made by uv from PyPI.

    .venv/peers-3.14    pounce (this checkout, editable), its peers, Starlette and FastAPI
    .venv/sockets-3.14  pounce, and uvicorn with what speaks WebSocket
    .venv/bengal-3.14   bengal-pounce, whose module is called `pounce` too, and the same frameworks

One of each for the interpreter this runs on. Wheels only: a package that has none for this interpreter is left out,
and said to be. An environment stays as it was made, so that figures of two days can be compared; its versions are in
the report, and `--renew` makes it again.
"""

import json
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "tools"))

import interpreter  # noqa: E402  the project's own way to uv

GIL = not sysconfig.get_config_var("Py_GIL_DISABLED")
TAG = f"{sys.version_info[0]}.{sys.version_info[1]}{'' if GIL else 't'}"

PEERS = ("uvicorn", "httptools", "uvloop", "granian", "hypercorn", "starlette", "fastapi")
SOCKETS = ("uvicorn", "websockets", "wsproto", "httptools", "uvloop")
BENGAL = ("bengal-pounce", "starlette", "fastapi")

VERSIONS = """
import importlib.metadata as metadata, json
print(json.dumps({each.name.lower().replace("_", "-"): each.version for each in metadata.distributions()}))
"""


@dataclass(frozen=True)
class Environment:
    python: Path
    versions: dict[str, str]  # of every distribution in it, by name

    def lacks(self, needed: tuple[str, ...]) -> list[str]:
        return [name for name in needed if name not in self.versions]


def peers(renew: bool = False) -> Environment:
    return _environment(f"peers-{TAG}", PEERS, _checkout(), renew, checkout=True)


def sockets(renew: bool = False) -> Environment:
    return _environment(f"sockets-{TAG}", SOCKETS, _checkout(), renew, checkout=True)


def _checkout() -> list[str]:
    requirements = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    return [*requirements, "pounce from this checkout"]


def bengal(renew: bool = False) -> Environment:
    return _environment(f"bengal-{TAG}", BENGAL, [], renew, checkout=False)


def _environment(name: str, packages: tuple[str, ...], also: list[str], renew: bool, checkout: bool) -> Environment:
    place = ROOT / ".venv" / name
    python, mark = place / "bin" / "python", place / "made-from"
    wanted = json.dumps([str(Path(sys.executable).resolve()), sys.version, packages, also])
    place.parent.mkdir(exist_ok=True)
    with interpreter.locked(place.parent / "lock"):
        if renew or not mark.exists() or mark.read_text() != wanted:
            _make(place, packages, checkout)
            mark.write_text(wanted)
    return Environment(python, json.loads(subprocess.check_output([str(python), "-I", "-c", VERSIONS])))


def _make(place: Path, packages: tuple[str, ...], checkout: bool) -> None:
    interpreter.say(f"making {place.relative_to(ROOT)} with {sys.executable}")
    try:
        uv = str(interpreter.uv())
    except interpreter.Failed as error:
        interpreter.fail(str(error))
    shutil.rmtree(place, ignore_errors=True)
    install = [uv, "pip", "install", "--quiet", "--color", "never", "--python", str(place / "bin" / "python")]
    first = [[uv, "venv", "--quiet", "--python", sys.executable, str(place)]]
    if checkout:
        first.append([*install, "--editable", str(ROOT)])
    for command in first:
        if subprocess.run(command, cwd=ROOT).returncode:
            interpreter.fail(f"failed: {' '.join(command)}")
    for package in packages:
        done = subprocess.run(
            [*install, "--only-binary", ":all:", package], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        if done.returncode:
            interpreter.say(f"{package} is left out on {TAG}: {_reason(done.stdout.decode(errors='replace'))}")


def _reason(output: str) -> str:
    """The two usual reasons in a few words; any other as uv says it, in one line."""
    text = re.sub(r"[^\x21-\x7e]+", " ", output).strip()
    if wanted := re.search(r"does not satisfy (Python[\d.<>=,]+)", text):
        return f"it needs {wanted[1].rstrip('.,')}"
    return "it has no wheel for it" if "no usable wheels" in text else text[:300]
