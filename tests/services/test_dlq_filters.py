"""Filters of `spile dlq` that name what is not there."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest
from click.testing import CliRunner

from spile.adapters.dead_letters import DeadLetter, DeadLetterBrowser, DeadLetterQueue, LetterFilter
from spile.adapters.dead_letters._marks import mark_of
from spile.adapters.memory import MemoryCluster
from spile.services.command import command
from spile.services.command.dlq._options import Desk
from spile.topics import default_catalogue

TOPIC = "dev.agent.tool.recorded.v1"
QUEUE = f"{TOPIC}.dlq"


@pytest.fixture
def letters(make_record, monkeypatch):
    """Two letters of two groups in a queue that the commands read."""
    cluster = MemoryCluster.of_catalogue(default_catalogue(), "dev")

    async def fill():
        sender = cluster.sender()
        for offset, group in enumerate(("persistence", "shipping")):
            queue = DeadLetterQueue(sender, group=group)
            record = make_record(offset)
            await queue.keep(record, ValueError("x"), group=group, attempts=1)
        letters = [DeadLetter.of(record) for record in cluster.records(QUEUE)]
        await sender.send([mark_of(letters[0], "purged", now=datetime.now(UTC))])
        return letters

    def browser(self, queue):
        del self
        return DeadLetterBrowser(cluster.reader, queue)

    monkeypatch.setattr(Desk, "browser", browser)
    return asyncio.run(fill())


def dlq(*arguments):
    """Run the command."""
    return CliRunner().invoke(command, ["dlq", *arguments])


@pytest.mark.parametrize("what", [("reprocess",), ("purge", "--yes")])
def test_an_unknown_id_ends_with_one(letters, what):
    """Nothing is done when an id is that of no letter, also not for the other ids."""
    done = dlq(*what, TOPIC, "--id", "9:9", "--id", letters[1].place)
    assert done.exit_code == 1
    assert f"{QUEUE} holds no letter 9:9; nothing was done" in done.stderr


def test_a_settled_id_is_told(letters, capsys):
    """Run again after an interruption, a command says what was done and goes on."""
    which = LetterFilter(places={each.place for each in letters})
    asyncio.run(Desk.open().look_for(QUEUE, which))
    assert capsys.readouterr().err.startswith(f"{letters[0].place} is settled: purged at ")


@pytest.mark.parametrize("what", ["list", "stats"])
def test_an_unknown_group_is_told_with_those_that_there_are(letters, what):
    """Only groups with open letters are named."""
    done = dlq(what, TOPIC, "--group", "shiping")
    assert done.exit_code == 0
    assert f"{QUEUE} holds no open letter of shiping: there are letters of shipping" in done.stderr
    assert "persistence" not in done.stderr
    assert dlq(what, TOPIC, "--group", "shipping").stderr == ""


def test_an_unknown_type_is_warned_of(letters):
    """The catalogue's nearest one is named."""
    done = dlq("list", TOPIC, "--type", "PRE_TOOL_USES")
    assert "no event type PRE_TOOL_USES: did you mean PRE_TOOL_USE?" in done.stderr
