"""The environments of the other servers: below .venv/, made by uv from PyPI, one of each for this interpreter.

    .venv/peers-3.14    pounce (this checkout, editable), its peers, Starlette and FastAPI
    .venv/sockets-3.14  pounce, and uvicorn with its WebSocket libraries
    .venv/bengal-3.14   bengal-pounce, whose module is called `pounce` too, and the same frameworks

Only wheels are installed: a package without a wheel for this interpreter is left out, with a line that says so. An
environment stays as it was made, so that the figures of two days can be compared. Its versions are in the results;
`--renew` makes it again.
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

import interpreter  # noqa: E402  it finds uv

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
    return find_or_make("peers", PEERS, renew=renew)


def sockets(renew: bool = False) -> Environment:
    return find_or_make("sockets", SOCKETS, renew=renew)


def bengal(renew: bool = False) -> Environment:
    return find_or_make("bengal", BENGAL, renew=renew, checkout=False)


def find_or_make(name: str, packages: tuple[str, ...], *, renew: bool = False, checkout: bool = True) -> Environment:
    """The environment of that name with these packages and, with `checkout`, this project."""
    folder = ROOT / ".venv" / f"{name}-{TAG}"
    python, made_from = folder / "bin" / "python", folder / "made-from"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"] if checkout else {}
    also = [project.get("name"), project.get("dependencies")]
    wanted = json.dumps([str(Path(sys.executable).resolve()), sys.version, packages, also])
    folder.parent.mkdir(exist_ok=True)
    with interpreter.locked(folder.parent / "lock"):
        if renew or not made_from.exists() or made_from.read_text() != wanted:
            _make(folder, packages, checkout)
            made_from.write_text(wanted)
    return Environment(python, json.loads(subprocess.check_output([str(python), "-I", "-c", VERSIONS])))


def _make(folder: Path, packages: tuple[str, ...], checkout: bool) -> None:
    interpreter.say(f"making {folder.relative_to(ROOT)} with {sys.executable}")
    try:
        uv = str(interpreter.uv())
    except interpreter.Failed as error:
        interpreter.fail(str(error))
    shutil.rmtree(folder, ignore_errors=True)
    install = [uv, "pip", "install", "--quiet", "--color", "never", "--python", str(folder / "bin" / "python")]
    first = [[uv, "venv", "--quiet", "--python", sys.executable, str(folder)]]
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
            interpreter.say(f"{package} is left out on {TAG}: {_reason(done.stdout.decode(errors='refolder'))}")


def _reason(output: str) -> str:
    """Why uv has not installed a package: the two usual reasons in a few words, any other as uv words it."""
    text = re.sub(r"[^\x21-\x7e]+", " ", output).strip()
    if wanted := re.search(r"does not satisfy (Python[\d.<>=,]+)", text):
        return f"it needs {wanted[1].rstrip('.,')}"
    return "it has no wheel for it" if "no usable wheels" in text else text[:300]
