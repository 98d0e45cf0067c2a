"""The hook that hears of asyncio's import, and other finders on sys.meta_path."""

import importlib.machinery
import sys
from types import SimpleNamespace

import pytest

from pounce.aio.import_hook import ImportHook
from pounce.app.copies import _CopyingFinder


# Found by reading the code.
def test_sys_meta_path_is_replaced_not_changed_by_the_hook():
    finders = sys.meta_path
    before = list(finders)
    hook = ImportHook("a_module_that_nobody_imports", "x", int)
    hook.install()
    assert sys.meta_path[1:] == before
    during = sys.meta_path
    hook.remove()
    assert list(finders) == before
    assert during[0] is hook
    assert sys.meta_path == before
    assert importlib.machinery.PathFinder in sys.meta_path


@pytest.mark.parametrize("order", [1, -1])
def test_two_finders_that_delegate_do_not_call_each_other_for_ever(monkeypatch, order):
    hook = ImportHook("no_such_module", "last", lambda: None)
    copies = SimpleNamespace(are_running=lambda: True)
    both = [hook, _CopyingFinder(copies)][::order]
    monkeypatch.setattr(sys, "meta_path", [*both, *sys.meta_path])
    for finder in both:
        assert finder.find_spec("no_such_module", None) is None
