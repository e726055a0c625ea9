"""`spile events` and `spile store`."""

import asyncio
import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from uuid import UUID

import pytest
from click.testing import CliRunner

from spile.services.command import command
from spile.services.persistence import SqliteEventStore


@pytest.fixture
async def filled(store, make_run, make_row, monkeypatch):
    """A store with five events, which the command reads."""
    rows = [
        make_row(
            offset,
            happened_us=int(datetime.now(UTC).timestamp() - 60 * offset) * 1_000_000,
            event_type="PRE_TOOL_USE" if offset else "POST_TOOL_USE",
            tool_name="Read" if offset % 2 else "Bash",
            session_id=f"session-{offset}",
            service="agent\x1b[31m",
            envelope=json.dumps({"offset": offset, "text": "ä"}),
        )
        for offset in range(5)
    ]
    await store.append([make_run(0, 5, rows=rows)])
    monkeypatch.setenv("SPILE_STORE", str(store.path))
    return store


@pytest.fixture
def spile(filled):
    """Run the command, which brings its own event loop, beside the test's."""

    def run(*arguments):
        return subprocess.run(
            [sys.executable, "-c", "from spile.services.command import main; main()", *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


def test_query_prints_a_line_per_event(spile):
    """Oldest first, with tool and session; control characters do not reach the terminal."""
    done = spile("events", "query", "--tool", "Read")

    lines = done.stdout.splitlines()
    assert [line.rpartition("session=")[2] for line in lines] == ["session-3", "session-1"]
    assert "tool=Read" in lines[0]
    assert "\x1b" not in done.stdout


def test_query_prints_json(spile):
    """One event per line, envelope included."""
    done = spile("events", "query", "--json", "--limit", "1")

    event = json.loads(done.stdout)
    assert event["event"] == {"offset": 0, "text": "ä"}
    assert (event["topic"], event["partition"], event["offset"]) == (
        "dev.agent.tool.recorded.v1",
        0,
        0,
    )


@pytest.mark.parametrize(
    ("arguments", "count"),
    [
        ([], "5"),
        (["--type", "PRE_TOOL_USE"], "4"),
        (["--type", "PreToolUse"], "4"),
        (["--session", "session-2"], "1"),
        (["--since", "90s"], "2"),
        (["--until", "90s"], "3"),
        (["--since", "2000-01-01", "--until", "2000-01-02T00:00:00Z"], "0"),
        (["--correlation-id", str(UUID(int=7))], "5"),
        (["--tool", "' OR 1=1 --"], "0"),
    ],
)
def test_count_counts_what_fits(spile, arguments, count):
    """The filters are those of query."""
    assert spile("events", "count", *arguments).stdout.strip() == count


@pytest.mark.parametrize("arguments", [("count",), ("query",), ("tail", "--no-follow")])
def test_a_mistyped_type_is_warned_of(spile, arguments):
    """The catalogue may not have a foreign type, so it is a warning: stdout and code stay."""
    done = spile("events", *arguments, "--type", "PRE_TOL_USE")

    assert (done.returncode, done.stdout.strip()) == (0, "0" if arguments == ("count",) else "")
    assert done.stderr.strip() == (
        "warning: the catalogue has no event type PRE_TOL_USE: did you mean PRE_TOOL_USE?"
    )
    assert spile("events", *arguments, "--type", "PreToolUse").stderr == ""


def test_count_by_a_column(spile):
    """Per value, most first; as JSON too."""
    assert spile("events", "count", "--by", "tool_name").stdout.splitlines() == [
        "3  Bash",
        "2  Read",
    ]
    done = spile("events", "count", "--by", "tool_name", "--json")
    assert json.loads(done.stdout) == {"Bash": 3, "Read": 2}


@pytest.mark.parametrize("moment", ["yesterday", "5x", "2026-13-01"])
def test_moment_must_be_readable(moment):
    """The error says which forms there are."""
    result = CliRunner().invoke(command, ["events", "count", "--since", moment])

    assert result.exit_code == 2
    assert "15m" in result.output


async def test_tail_follows(filled, make_run, make_row):
    """New events are printed when they are stored."""
    with subprocess.Popen(  # noqa: ASYNC220 - its output is read line by line
        [
            sys.executable,
            "-uc",
            "from spile.services.command import main; main()",
            "events",
            "tail",
            "--limit",
            "1",
        ],
        stdout=subprocess.PIPE,
        text=True,
    ) as tail:
        assert tail.stdout is not None
        assert "session-0" in tail.stdout.readline()
        await filled.append([make_run(5, 6, rows=[make_row(5, session_id="fresh")])])
        assert "session=fresh" in tail.stdout.readline()
        tail.terminate()


def test_tail_without_following_ends(spile):
    """With --no-follow it prints what is there."""
    assert len(spile("events", "tail", "--no-follow").stdout.splitlines()) == 5


async def test_reset_offsets_forgets_them(spile, filled):
    """The command says how many, and leaves the events."""
    done = spile("store", "reset-offsets")

    assert done.stdout.strip() == "forgot the offsets of 1 partition"
    assert await filled.stored_offsets() == {}
    assert spile("events", "count").stdout.strip() == "5"


def test_reset_of_an_unknown_topic_fails(spile):
    """A typing error does not look like success."""
    done = spile("store", "reset-offsets", "--topic", "dev.nothing")

    assert done.returncode == 1
    assert "no offsets of dev.nothing" in done.stderr


async def test_tail_waits_for_the_store_that_it_follows(tmp_path, make_run, make_row):
    """A tail that is started before the worker says so, and shows the first event that comes."""
    path = tmp_path / "later.db"
    tail = subprocess.Popen(  # noqa: ASYNC220 - it runs beside the test
        [sys.executable, "-m", "spile.services.command", "events", "tail", "--count", "1"],
        env={**os.environ, "SPILE_STORE": str(path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert "waiting for" in await asyncio.to_thread(tail.stderr.readline)
        async with SqliteEventStore(path) as store:
            await store.append([make_run(0, 1, rows=[make_row(0, event_type="PRE_TOOL_USE")])])
            said, _ = await asyncio.to_thread(tail.communicate, None, 30)
    finally:
        tail.kill()
        tail.wait()
        tail.stdout.close()
        tail.stderr.close()
    assert tail.returncode == 0
    assert "PRE_TOOL_USE" in said
