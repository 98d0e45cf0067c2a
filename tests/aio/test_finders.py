"""Finders that pass the question on to the others: each to those behind it, so that it never goes round."""

import sys

import pytest

from pounce.aio.import_hook import ImportHook
from pounce.app.copies import _CopyingFinder


@pytest.mark.parametrize("order", [1, -1])
def test_two_that_pass_questions_on_do_not_ask_each_other_for_ever(monkeypatch, order):
    hook = ImportHook("no_such_module", "last", lambda: None)
    both = [hook, _CopyingFinder(None)][::order]
    monkeypatch.setattr(sys, "meta_path", [*both, *sys.meta_path])
    for finder in both:
        assert finder.find_spec("no_such_module", None) is None
