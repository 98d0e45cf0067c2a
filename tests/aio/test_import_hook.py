"""The hook that hears of asyncio's import, and other finders on sys.meta_path."""

import importlib.machinery
import sys

from pounce.aio.import_hook import ImportHook


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
