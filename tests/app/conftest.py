import gc
import importlib
import sys
import textwrap

import pytest

from tests.app.modules import REGISTER


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes modules of an application, and gives it and its `Copies`."""
    library = tmp_path / "site-packages"
    library.mkdir()
    (library / "register.py").write_text(textwrap.dedent(REGISTER))
    project = tmp_path / "project"
    project.mkdir()
    monkeypatch.syspath_prepend(str(library))
    monkeypatch.syspath_prepend(str(project))
    before = set(sys.modules)
    finders = sys.meta_path

    def write_modules(**modules):
        for name, text in modules.items():
            path = project / f"{name}.py"
            path.parent.mkdir(exist_ok=True)
            path.write_text(textwrap.dedent(text))
        importlib.invalidate_caches()
        return project

    yield write_modules
    sys.meta_path = finders
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.fixture
def few_objects():
    """What earlier tests have left is hidden from `gc.get_objects`, which would stop all threads for long."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()
