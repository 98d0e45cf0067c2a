#!/usr/bin/env python3
"""Prints the folder of CPython's own tests (its `test` package) for the Python that runs this.

    POUNCE_CPYTHON_TESTS=$(python3 tools/dev.py python tools/cpython_tests.py) make test

An interpreter that tools/interpreter.py has built includes them. Debian and Ubuntu have a package of them for every
version, which is downloaded into the cache; nothing on the system changes.
"""

import importlib.util
import platform
import re
import shutil
import sys
from pathlib import Path

import interpreter
from interpreter import CACHE, Failed, fail, output, private_apt, say, scratch

VERSION = platform.python_version()
PACKAGE = f"libpython{sys.version_info.major}.{sys.version_info.minor}-testsuite"
FOLDER = CACHE / f"cpython-tests-{VERSION}"


def included() -> Path | None:
    """The tests that the interpreter includes."""
    spec = importlib.util.find_spec("test")
    folders = [Path(folder) for folder in (spec.submodule_search_locations or ())] if spec else []
    return next((folder for folder in folders if complete(folder)), None)


def complete(folder: Path) -> bool:
    return (folder / "test_asyncio" / "__init__.py").is_file()


def fetch() -> None:
    family = interpreter.distribution()
    if family is None:
        raise Failed("this is not Debian or Ubuntu")
    say(f"fetching CPython's own tests: {PACKAGE} from {interpreter.mirror_of(family)}")
    with scratch("tests") as folder:
        options = private_apt(folder, family, "deb")
        versions = re.findall(r"^Version: (\S+)", output(["apt-cache", *options, "show", "-a", PACKAGE]), re.M)
        if not versions:
            raise Failed(f"it has no {PACKAGE}")
        # Those of this version if they exist, else the newest, which apt lists first.
        version = next((version for version in versions if version.startswith(f"{VERSION}-")), versions[0])
        output(["apt-get", *options, "download", f"{PACKAGE}={version}"], cwd=folder)
        output(["dpkg-deb", "-x", next(folder.glob("*.deb")), folder / "complete"])
        found = next((tests for tests in folder.glob("complete/usr/lib/python3*/test") if complete(tests)), None)
        if found is None:
            raise Failed(f"{PACKAGE} {version} has no tests of asyncio")
        shutil.rmtree(FOLDER, ignore_errors=True)
        found.rename(FOLDER)


def main() -> None:
    try:
        folder = included()
        if folder is None:
            with interpreter.locked(CACHE / "tests.lock"):
                if not complete(FOLDER):
                    fetch()
            folder = FOLDER
    except KeyboardInterrupt:
        fail("interrupted: nothing incomplete is left, the next run starts again")
    except (Failed, OSError) as reason:
        fail(f"the tests of CPython {VERSION} cannot be found ({reason}): Pounce's tests that need them are skipped")
    print(folder)


if __name__ == "__main__":
    main()
