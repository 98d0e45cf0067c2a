"""The loop and its deadlines, in a world where nothing exists but time."""

from pounce.kernel.loop import Loop
from tests.support.harness import skipping_loop


# Found by reading the code.
def test_a_timer_in_the_far_future_does_not_overflow_the_wait():
    loop = Loop()
    loop.call_later(1e9, int)
    loop.post(int)
    loop.turn()
    loop.turn(0)
    loop.post(int)
    loop.turn()
    loop.close()


def test_a_loop_says_how_long_it_is_busy():
    loop, selector = skipping_loop()
    seen = []

    def block():
        selector.clock.now += 7.0
        seen.append(loop.clock() - loop.busy_since)

    loop.call_soon(block)
    selector.skip = 0.001
    loop.turn(0)
    assert seen == [7.0]
    select, selector.select = selector.select, lambda timeout: [seen.append(loop.busy_since), select(timeout)][1]
    loop.turn(0)
    assert seen[1] == float("inf")
