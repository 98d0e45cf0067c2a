"""State machines: their tables, and the rig that enforces them in every test of this process."""

import pytest

from pounce.asgi.exchange import Exchange
from pounce.asgi.stages import BODY, START, TRAILERS
from pounce.supervisor.slot import Slot, SlotState
from tests.support import states
from tests.support.workers import FIRST


@pytest.mark.parametrize(("owner", "name", "transitions"), states.MACHINES)
def test_every_state_of_every_table_is_reached_and_only_listed_ones(owner, name, transitions):
    following = {state for after in transitions.values() for state in after}
    assert following <= set(transitions)
    assert len(set(transitions) - following) <= 1  # the first one


def test_the_rig_notes_a_change_that_no_table_lists():
    slot = Slot(0, FIRST)
    slot.state = SlotState.READY
    assert not states.illegal
    slot.state = SlotState.NEW
    assert states.illegal == ["Slot: SlotState.READY -> SlotState.NEW"]
    states.illegal.clear()


def test_the_rig_notes_a_change_from_a_state_that_is_an_attribute_of_the_class():
    exchange = Exchange.__new__(Exchange)
    assert exchange.stage == START
    exchange.stage = BODY
    assert states.illegal == ["Exchange: start -> body"]
    exchange.stage = TRAILERS
    assert states.illegal == ["Exchange: start -> body"]
    states.illegal.clear()
