"""What a lot takes in, what it ignores, and in which order it gives back."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from spile.adapters.dead_letters import ReplaysSpentError, RetryFacts, retry_headers
from spile.adapters.delivery import Record
from spile.adapters.retrying import Lot, _lot
from spile.spi import UndecodableError

NOW = 1_000.0
TOPIC = "dev.a.b.c.v1"


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def make(clock):
    """Make a lot with two tiers of 10 and 20 s; main committed at 100."""

    def lot(ends=(0, 0), starts=((0, ""), (0, ""))):
        return Lot(
            TOPIC,
            2,
            main_start=100,
            starts=starts,
            ends=ends,
            delays_s=(10.0, 20.0),
            clock=clock,
            wall_clock=lambda: NOW + clock.now,
        )

    return lot


def retry(offset, origin, *, key=b"k", role="follower", attempts=0, due=0.0, writer="other", n=2):
    """Make a record as it stands in a retry topic."""
    facts = RetryFacts(
        role=role,
        partition=n,
        offset=origin,
        timestamp=7,
        attempts=attempts,
        due=int((NOW + due) * 1000),
        first_failure=datetime(2026, 1, 1, tzinfo=UTC),
        writer=writer,
    )
    headers = (("h", b"1"), *retry_headers(facts))
    return Record("t.g.retry.0", 2, offset, 99, key, b"v%d" % origin, headers)


def taken(lot):
    """Hand out and settle what is due."""
    found = []
    while (entry := lot.take()) is not None:
        found.append(entry.record.offset)
        lot.settle(entry)
    return found


def test_followers_wait_for_the_head(make, clock):
    """Followers are free only when the head is done, in the order of their origin."""
    lot = make(ends=(3, 0))
    lot.accept(0, [retry(0, 5, role="head", attempts=1, due=4.0), retry(1, 7), retry(2, 6)])
    assert lot.reached(0, 3)
    lot.finish_scan()
    assert (lot.take(), lot.due_in(), lot.is_draining(b"k")) == (None, 4.0, False)
    clock.now = 4.0
    assert lot.is_draining(b"k")
    assert taken(lot) == [5, 6, 7]
    assert lot.is_empty
    assert lot.windows[0].position == 3


def test_the_most_tried_copy_counts(make, clock):
    """Of the copies that a crash left in two tiers the higher one is handed out, once."""
    lot = make(ends=(2, 1))
    lot.accept(0, [retry(0, 5, role="head", attempts=1), retry(1, 6)])
    lot.accept(1, [retry(0, 5, role="head", attempts=2, due=15.0)])
    lot.finish_scan()
    assert lot.windows[0].position == 1
    assert taken(lot) == []
    clock.now = 15.0
    assert taken(lot) == [5, 6]


def test_what_the_main_partition_delivers_again_is_ignored(make):
    """A copy of a record at or above the committed offset of the main partition is done."""
    lot = make(ends=(2, 0))
    lot.accept(0, [retry(0, 100, role="head", attempts=1), retry(1, 99, key=b"x")])
    lot.finish_scan()
    assert not lot.is_parked(b"k")
    assert taken(lot) == [99]
    assert lot.windows[0].position == 2


def test_only_own_records_count_later(make):
    """After the scan a record of another writer is done; one's own is held when it is expected."""
    lot = make()
    lot.expect(b"k", 200, 0)
    lot.accept(0, [retry(0, 200, writer="zombie"), retry(1, 201, writer="zombie", key=b"x")])
    assert (lot.take(), lot.is_parked(b"x")) == (None, False)
    lot.accept(0, [retry(2, 200, writer=lot.token), retry(3, 200, writer=lot.token)])
    assert taken(lot) == [200]
    lot.accept(0, [retry(4, 200, writer=lot.token)])
    assert (lot.is_empty, lot.windows[0].position) == (True, 5)


def test_late_copy_is_not_taken_for_the_next_attempt(make):
    """A repeated copy of an earlier attempt is not taken for the record that moved up."""
    lot = make()
    lot.expect(b"k", 200, 1)
    lot.accept(0, [retry(0, 200, role="head", attempts=1, writer=lot.token)])
    entry = lot.take()
    lot.move(entry, 2)
    lot.accept(0, [retry(1, 200, role="head", attempts=1, writer=lot.token)])
    assert lot.take() is None
    lot.accept(1, [retry(0, 200, role="head", attempts=2, writer=lot.token)])
    lot.release(entry)
    assert taken(lot) == [200]
    assert [window.position for window in lot.windows] == [2, 1]


def test_due_times_of_another_clock_are_bounded(make):
    """A record waits at most the delay of its tier, whatever the clock of its writer said."""
    lot = make(ends=(1, 0))
    lot.accept(0, [retry(0, 5, role="head", attempts=1, due=1e6)])
    lot.finish_scan()
    assert lot.due_in() == 10.0


def test_more_than_memory_should_hold(make, monkeypatch):
    """The scan knows all parked keys, holds some records, and says where to read on."""
    monkeypatch.setattr(_lot, "_CROWDED_SPAN", 4)
    lot = make(ends=(10, 0))
    records = [retry(n, n, key=b"%d" % (n % 5)) for n in range(10)]
    lot.accept(0, records)
    assert lot.finish_scan() == {0: 4}
    assert all(lot.is_parked(b"%d" % n) for n in range(5))
    assert lot.is_crowded(0)
    assert taken(lot) == [0, 1, 2, 3]
    assert lot.has_room(0)
    assert lot.left(b"4") == 2
    lot.accept(0, records[4:])
    assert taken(lot) == [4, 5, 6, 7, 8, 9]
    assert lot.is_empty


def test_done_records_stay_done(make):
    """What the note says is done is not handed out again."""
    before = make(ends=(3, 0))
    before.accept(0, [retry(n, n, key=b"%d" % n) for n in range(3)])
    before.finish_scan()
    before.windows[0].close(1)
    lot = make(ends=(3, 0), starts=((0, before.windows[0].note()), (0, "")))
    lot.accept(0, [retry(n, n, key=b"%d" % n) for n in range(3)])
    lot.finish_scan()
    assert taken(lot) == [0, 2]


def test_done_records_beyond_memory_stay_done(make, monkeypatch):
    """A record that the note says is done parks no key, also where the scan holds no more."""
    before = make(ends=(10, 0))
    records = [retry(n, n, key=b"%d" % n) for n in range(10)]
    before.accept(0, records)
    before.finish_scan()
    before.windows[0].close(6)
    monkeypatch.setattr(_lot, "_CROWDED_SPAN", 4)
    lot = make(ends=(10, 0), starts=((0, before.windows[0].note()), (0, "")))
    lot.accept(0, records)
    assert lot.finish_scan() == {0: 4}
    assert not lot.is_parked(b"6")
    assert taken(lot) == [0, 1, 2, 3]
    lot.accept(0, records[4:])
    assert taken(lot) == [4, 5, 7, 8, 9]
    assert (lot.is_empty, lot.windows[0].position) == (True, 10)


def test_nothing_is_handed_out_twice(make):
    """A follower that was read before its head, by a clock ahead, is handed out once after it."""
    lot = make(ends=(1, 1))
    lot.accept(0, [retry(0, 6, due=2.0)])
    lot.accept(1, [retry(0, 5, role="head", attempts=2)])
    lot.finish_scan()
    lot._clock.now = 2.0
    first = lot.take()
    lot.settle(first)
    second = lot.take()
    assert (first.record.offset, second.record.offset, lot.take()) == (5, 6, None)


def test_copy_that_would_not_be_read(make, monkeypatch):
    """A copy is worth writing only where the tier is read up to it; else the record waits."""
    monkeypatch.setattr(_lot, "_CROWDED_SPAN", 8)
    lot = make(ends=(6, 0))
    lot.accept(0, [retry(n, n) for n in range(6)])
    lot.finish_scan()
    assert not lot.comes_back(0)
    entry = lot.take()
    lot.wait(entry, ValueError("no"), 3, datetime(2026, 1, 1, tzinfo=UTC))
    assert (lot.take(), lot.due_in(), lot.is_draining(b"k")) == (None, 10.0, False)
    assert (entry.facts.role, entry.facts.attempts) == ("head", 3)
    lot._clock.now = 10.0
    assert taken(lot) == [0, 1, 2, 3, 4, 5]
    assert lot.comes_back(0)


def test_all_that_waits_for_what_is_unread(make):
    """A lot is stuck when no record in memory will ever be handed out by itself."""
    lot = make(ends=(2, 0))
    lot.accept(0, [retry(0, 5), retry(1, 6)])
    lot.finish_scan()
    assert not lot.is_stuck
    lot.move(lot.take(), 1)
    assert lot.is_stuck


def test_reprocessed_records_wait_for_nobody(make):
    """A record that an operator sent is handed out beside a parked key, with its replay count."""
    lot = make()
    lot.expect(b"k", 200, 1)
    record = retry(0, 3, role="reprocess", writer=None)
    counted = (*record.headers, ("x-spile-dlq-replay-count", b"4"))
    lot.accept(0, [record, Record("t", 2, 1, 9, b"k", b"v", counted)])
    first, second = lot.take(), lot.take()
    assert (first.record.headers, first.replays, first.refusal) == ((("h", b"1"),), 0, None)
    assert second.replays == 4
    assert isinstance(second.refusal, ReplaysSpentError)
    lot.settle(first)
    lot.settle(second)
    assert (lot.is_parked(b"k"), lot.windows[0].position) == (True, 2)


def test_foreign_records_can_only_be_buried(make):
    """A record without the headers of a retry record, or of another partition, is refused."""
    lot = make()
    lot.accept(0, [Record("t", 2, 0, 9, b"k", b"v", ()), retry(1, 5, n=1)])
    for entry in (lot.take(), lot.take()):
        assert isinstance(entry.refusal, UndecodableError)
