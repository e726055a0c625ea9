"""What becomes of a letter that is mended."""

from __future__ import annotations

import json

import click
import pytest

from spile.adapters.dead_letters import DeadLetter, DeadLetterQueue
from spile.adapters.memory import MemoryCluster
from spile.services.command.dlq._edit import check, edited_copy, with_changes
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


def test_set_changes_what_is_there():
    """Members and items of lists, however deep."""
    value = b'{"payload":{"payload":{"order_id":"1","lines":[{"n":1},{"n":2}]}}}'
    changed = with_changes(value, ('payload.payload.order_id="2"', "payload.payload.lines.1.n=3"))
    assert json.loads(changed)["payload"]["payload"] == {
        "order_id": "2",
        "lines": [{"n": 1}, {"n": 3}],
    }


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("payload.order_idd", "did you mean payload.order_id?"),
        ("order_id", "did you mean payload.order_id?"),
        ("paylod.order_id", "did you mean payload.order_id?"),
        ("payload.lines.7", "did you mean payload.lines.0?"),
        ("payload.order_id.x", "did you mean payload.order_id?"),
        ("q", "there are payload, payload.lines, payload.lines.0, payload.order_id"),
    ],
)
def test_a_mistyped_path_is_refused(path, meant):
    """What the value does not have is not added by mistake; the nearest path is named."""
    value = b'{"payload":{"order_id":"1","lines":[0]}}'
    with pytest.raises(click.UsageError) as caught:
        with_changes(value, (f'{path}="x"',))
    assert str(caught.value).startswith(f"{path}: the value has no ")
    assert meant in str(caught.value)


def test_add_adds_a_member():
    """Only the last part of a path may be new."""
    value = b'{"payload":{}}'
    assert with_changes(value, ('payload.note="x"',), add=True) == b'{"payload":{"note":"x"}}'
    with pytest.raises(click.UsageError, match="no 'more' there"):
        with_changes(value, ('payload.more.note="x"',), add=True)
