"""The stack of another thread or process that does not answer."""

import signal
import threading

import pytest

from pounce.observe import stacks


@pytest.mark.parametrize("how", ["sleeping", "computing"])
def test_stack_of_a_thread_that_does_not_answer(how):
    over, begun = threading.Event(), threading.Event()

    def sleeping():
        begun.set()
        over.wait(30)

    def computing():
        begun.set()
        while not over.is_set():
            sum(range(100))

    thread = threading.Thread(target=locals()[how])
    thread.start()
    begun.wait()
    for _ in range(3):
        text = stacks.of(lambda number: signal.pthread_kill(thread.ident, number))
        assert f"in {how}\n" in text + "\n"
        assert "threading.py" not in text or how == "sleeping"
    over.set()
    thread.join()


def test_stack_of_a_thread_that_has_ended_is_empty():
    def gone(number):
        raise ProcessLookupError

    assert stacks.of(gone) == ""
