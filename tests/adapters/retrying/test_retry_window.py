"""Offsets that are done in any order, and the note that keeps them over a restart."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spile.adapters.retrying import Window


def test_position_is_the_lowest_open_offset():
    """What is done above an open offset does not move the position."""
    window = Window(10)
    assert [window.open(offset) for offset in (10, 11, 12)] == [True, True, True]
    window.close(11)
    assert (window.position, window.span) == (10, 3)
    window.close(10)
    assert window.position == 12
    window.close(12)
    assert (window.position, window.idle, window.note()) == (13, True, "")


def test_offsets_without_a_record_are_done():
    """Offsets that are never read hold up nothing."""
    window = Window(0)
    window.open(3)
    window.open(7)
    window.close(3)
    assert window.position == 7


def test_all_open_needs_no_note():
    """While nothing is done above the position there is nothing to keep."""
    window = Window(0)
    for offset in range(5):
        window.open(offset)
    assert window.note() == ""


@given(st.lists(st.tuples(st.integers(1, 3), st.booleans()), max_size=60), st.integers(0, 60))
def test_note_round_trip(steps, read_again):
    """After a restart, and another one, exactly the offsets that were open are open again."""
    window, offset, open_ones = Window(5), 4, set()
    offsets = []
    for step, done in steps:
        offset += step
        offsets.append(offset)
        window.open(offset)
        if done:
            window.close(offset)
        else:
            open_ones.add(offset)
    second = Window(window.position, window.note())
    for place in [o for o in offsets if o >= second.start][:read_again]:
        assert second.open(place) is (place in open_ones)
    third = Window(second.position, second.note())
    again = {place for place in offsets if place >= third.start and third.open(place)}
    assert again == open_ones


def test_note_fits_into_a_commit():
    """The longest note is below the 4,096 characters that a broker takes."""
    window = Window(0)
    for offset in range(30_000):
        window.open(offset)
        if offset % 2:
            window.close(offset)
    assert 3000 < len(window.note()) < 4096


@pytest.mark.parametrize(
    "note", ["x", "spile1:3:%%", "spile9:3:AAAA", "spile1:3:é", "spile1:2:/w==", "spile1:/w=="]
)
def test_unreadable_note_counts_as_none(note):
    """A note of somebody else means that nothing above the offset is known to be done."""
    assert [Window(3, note).open(offset) for offset in (3,)] == [True]
    assert Window(3, note).position == 3
