"""What becomes of a letter that is mended."""

from __future__ import annotations

from spile.adapters.dead_letters import DeadLetter, DeadLetterQueue
from spile.adapters.memory import MemoryCluster
from spile.services.command._dlq_edit import check, edited_copy
from spile.spi import MessageTooLargeError
from spile.topics import default_catalogue


async def test_letter_without_its_value_can_be_given_another(make_record):
    """A letter whose value no queue takes keeps what its event needs to be whole again."""
    record = make_record(7)
    cluster = MemoryCluster.of_catalogue(default_catalogue(), "dev")
    cluster.faults.fail("send", MessageTooLargeError("no", size_bytes=100, limit_bytes=9))
    await DeadLetterQueue(cluster.sender()).keep(record, ValueError("x"), group="g", attempts=1)
    (kept,) = cluster.records(f"{record.topic}.dlq")
    letter = DeadLetter.of(kept)
    assert (letter.record.value, letter.is_without_value) == (None, True)

    copy = edited_copy(letter, record.value, operator="ann")

    check(copy, letter, default_catalogue(), "dev")
    assert [pair for pair in copy.headers if pair[0] != "x-spile-edited"] == list(record.headers)
