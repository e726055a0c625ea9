"""The load driver keeps its books so that the ledger can be believed."""

import pytest

from spile.spi import CircuitOpenError, ClosedError
from spile.testkit.ledger import History, Outcome, read_history
from spile.testkit.load import Load, LoadPlan


class Scripted:
    """A publisher whose answers are given beforehand: True, False or an error; True afterwards."""

    def __init__(self, answers=()):
        self.answers = list(answers)
        self.ids = []

    async def publish_event(self, event):
        self.ids.append(event.event_id)
        answer = self.answers.pop(0) if self.answers else True
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def publish_many(self, events):
        return [await self.publish_event(event) for event in events]


@pytest.fixture
def run(tmp_path):
    """Run a load with one key on scripted answers; return summary and entries."""

    async def run(publisher, **plan):
        history = History(tmp_path / "load.jsonl")
        chosen = {"rate_per_s": 200, "limit_s": 0.1, "keys": 1} | plan
        try:
            summary = await Load(publisher, history, LoadPlan(**chosen)).run()
        finally:
            history.close()
        return summary, read_history(tmp_path)

    return run


@pytest.mark.parametrize("many", [False, True])
async def test_unconfirmed_event_is_published_again_under_its_id(run, many):
    """What is not confirmed is tried again, as the same event, before its key goes on."""
    publisher = Scripted([False, CircuitOpenError("open"), False, True])
    summary, entries = await run(publisher, many=many, limit_s=0.4)
    assert len(set(publisher.ids[:4])) == 1
    assert publisher.ids[4] != publisher.ids[0]
    assert [entry.outcome for entry in entries[:3]] == [Outcome.INVOKE, Outcome.OK, Outcome.INVOKE]
    assert (summary.repeated, summary.indefinite, summary.failed) == (3, 0, 0)


@pytest.mark.parametrize(
    ("answers", "outcome"),
    [
        ([CircuitOpenError("open")], Outcome.FAIL),
        ([False], Outcome.INFO),
        ([False, CircuitOpenError("open")], Outcome.INFO),
    ],
)
async def test_event_given_up_ends_its_key(run, answers, outcome):
    """Given up is `fail` only if no attempt was sent, and its key never goes on after it."""
    give_up_s = 0.05 if len(answers) > 1 else 0.0
    _, entries = await run(Scripted(answers), give_up_s=give_up_s, limit_s=0.3)
    first = [entry for entry in entries if entry.key == entries[0].key]
    assert [entry.outcome for entry in first] == [Outcome.INVOKE, outcome]
    assert {entry.outcome for entry in entries[2:]} == {Outcome.INVOKE, Outcome.OK}


async def test_numbers_of_a_key_have_no_gaps(run):
    """A key's events are numbered from 0, and each is invoked before it is settled."""
    _, entries = await run(Scripted(), keys=3)
    for key in {entry.key for entry in entries}:
        mine = [(entry.outcome, entry.seq) for entry in entries if entry.key == key]
        count = len(mine) // 2
        expected = [(o, n) for n in range(count) for o in (Outcome.INVOKE, Outcome.OK)]
        assert mine == expected


async def test_refusal_ends_the_load(run):
    """An error that no retry cures ends the load, as itself."""
    with pytest.raises(ClosedError):
        await run(Scripted([True, ClosedError("closed")]), keys=2)
