#!/usr/bin/env python3
"""Prints the folder with CPython's own tests (its `test` package) for the Python that runs this.

    POUNCE_CPYTHON_TESTS=$(python3 tools/dev.py python tools/cpython_tests.py) make test

An interpreter that tools/interpreter.py has built has them. Debian and Ubuntu ship them apart, for every version: the
package is fetched into the cache, and nothing on the system changes.
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
PLACE = CACHE / f"cpython-tests-{VERSION}"


def own() -> Path | None:
    """What the interpreter itself has."""
    spec = importlib.util.find_spec("test")
    folders = [Path(folder) for folder in (spec.submodule_search_locations or ())] if spec else []
    return next((folder for folder in folders if whole(folder)), None)


def whole(folder: Path) -> bool:
    return (folder / "test_asyncio" / "__init__.py").is_file()


def fetch() -> None:
    family = interpreter.distribution()
    if family is None:
        raise Failed("this is no Debian or Ubuntu")
    say(f"fetching CPython's own tests: {PACKAGE} from {interpreter.mirror_of(family)}")
    with scratch("tests") as place:
        options = private_apt(place, family, "deb")
        versions = re.findall(r"^Version: (\S+)", output(["apt-cache", *options, "show", "-a", PACKAGE]), re.M)
        if not versions:
            raise Failed(f"it has no {PACKAGE}")
        # Those of this very version if they are there, else the newest, which apt lists first.
        version = next((version for version in versions if version.startswith(f"{VERSION}-")), versions[0])
        output(["apt-get", *options, "download", f"{PACKAGE}={version}"], cwd=place)
        output(["dpkg-deb", "-x", next(place.glob("*.deb")), place / "whole"])
        found = next((folder for folder in place.glob("whole/usr/lib/python3*/test") if whole(folder)), None)
        if found is None:
            raise Failed(f"{PACKAGE} {version} has no tests of asyncio")
        shutil.rmtree(PLACE, ignore_errors=True)
        found.rename(PLACE)


def main() -> None:
    try:
        place = own()
        if place is None:
            with interpreter.locked(CACHE / "tests.lock"):
                if not whole(PLACE):
                    fetch()
            place = PLACE
    except KeyboardInterrupt:
        fail("interrupted: nothing half made is left, the next run begins again")
    except (Failed, OSError) as reason:
        fail(f"no tests of CPython {VERSION} to be had ({reason}): Pounce's tests that need them are skipped")
    print(place)


if __name__ == "__main__":
    main()
