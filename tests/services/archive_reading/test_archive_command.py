"""`spile archive`: what a person sees and scripts read."""

from __future__ import annotations

import json
import re
import sqlite3
import subprocess
import sys
import time
from contextlib import closing

import pytest
from click.testing import CliRunner

from spile.adapters.delivery import Record
from spile.services.command import command

TOPIC = "dev.agent.tool.recorded.v1"
REPORTS = "dev.spile.audit.counted.v1"
OTHER = "dev.other.tool.recorded.v1"
SECRET = "sk-abcdefghijklmnopqrstuvwxyz0123456789ABCD"


@pytest.fixture
def spile(root, folder, monkeypatch, invoke):
    """Run the command on the archive."""
    monkeypatch.setenv("SPILE_ARCHIVE", str(root))
    monkeypatch.setenv("COLUMNS", "100")
    return invoke


@pytest.fixture
def sealed(fill, make_record):
    """Two partitions of one topic, and another topic."""
    fill([make_record(n, topic=OTHER) for n in range(10)])
    fill([make_record(n, partition=1) for n in range(10)])
    return fill([make_record(n) for n in range(20)])


def lines(done):
    """Read JSON lines."""
    return [json.loads(line) for line in done.stdout.splitlines()]


def count(path):
    """Count the rows of a store and its offsets, by SQL."""
    with closing(sqlite3.connect(path)) as database:
        rows = database.execute("SELECT count(*) FROM events").fetchone()[0]
        return rows, database.execute("SELECT * FROM offsets ORDER BY 1, 2").fetchall()


def rows(path):
    """Count the rows of a store that somebody may be making."""
    with closing(sqlite3.connect(path, timeout=0)) as database:
        try:
            return database.execute("SELECT count(*) FROM events").fetchone()[0]
        except sqlite3.OperationalError:
            return 0


def test_ls_shows_what_is_there(spile, sealed):
    """A line per partition with range, records, objects, size and times; or per object."""
    shown = spile("ls").stdout.splitlines()
    assert len(shown) == 4
    assert re.fullmatch(rf"{TOPIC} +0 +0-19 +20 +2 +\S+ kB +2026-01-02 03:04 - 03:04", shown[1])

    listed = lines(spile("ls", "--json", "--topic", "agent.tool.recorded.v1"))
    assert [(one["partition"], one["records"], one["objects"]) for one in listed] == [
        (0, 20, 2),
        (1, 10, 1),
    ]
    assert listed[0]["size_bytes"] == sum(len(one.data) for one in sealed)
    assert len(lines(spile("ls", "--json", "--objects", "--partition", "0"))) == 3


@pytest.mark.parametrize("width", [80, 100])
def test_ls_fits_a_terminal(spile, fill, make_record, monkeypatch, width):
    """Long names stand above their partitions, and no number is cut."""
    topic = f"dev.{'very-' * 8}long.tool.recorded.v1"
    fill([make_record(n, topic=topic) for n in range(123_456_000, 123_456_010)])
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("COLUMNS", str(width))
    text = re.sub(r"\x1b\[[0-9;]*m", "", spile("ls").stdout)
    assert all(len(line) <= width for line in text.splitlines())
    assert f"\n{topic}\n" in text
    assert re.search(r" 0  123456000-123456009 +10 +1 +\S+ kB", text)
    assert "2026-01-02 03:04 - 03:04" in text


def test_ls_tells_what_is_not_listed_yet(spile):
    """An empty archive is said in a line, and when the newest records follow."""
    done = spile("ls", env={"SPILE_ARCHIVE_WINDOW_S": "2"})
    assert done.stdout.endswith("holds nothing of what is meant\n")
    assert done.stdout.count("\n") == 1
    assert "2 s (SPILE_ARCHIVE_WINDOW_S) after its first one" in done.stderr
    assert spile("ls", "--json").output == ""


def test_cat_prints_records_that_fit(spile, fill, make_record):
    """Filters by place, type, key and limit; one JSON object a line."""
    kinds = ["PRE_TOOL_USE", "POST_TOOL_USE"]
    fill([make_record(n, event_type=kinds[n % 2], key=b"%d" % (n % 3)) for n in range(20)])
    got = lines(spile("cat", "--type", "PostToolUse", "--key", "1", "--limit", "2"))
    assert [(one["offset"], one["key"]) for one in got] == [(1, "1"), (7, "1")]
    assert got[0]["value"]["event_type"] == "POST_TOOL_USE"
    assert got[0]["timestamp"] == "2026-01-02T03:04:05.000Z"
    assert lines(spile("cat", "--since", "2026-01-02T03:04:06")) == []
    assert len(lines(spile("cat", "--until", "2026-01-02T03:04:06"))) == 20


@pytest.mark.parametrize("command", [("cat",), ("verify",), ("replay", "--dry-run")])
def test_a_mistyped_topic_is_no_empty_archive(spile, sealed, command):
    """What the archive does not have is said, with the name that may have been meant: code 1."""
    done = spile(*command, "--topic", "agent.tool.recorde.v1", code=1)
    assert f"has no topic dev.agent.tool.recorde.v1: did you mean {TOPIC}?" in done.stderr
    done = spile(*command, "--topic", "agent.tool.recorded.v1", "--partition", "7", code=1)
    assert f"has no partition 7 of {TOPIC}: there are 0, 1" in done.stderr


def test_a_mistyped_type_is_warned_of(spile, sealed):
    """A type that the catalogue does not have gives nothing, and a word on stderr why."""
    done = spile("cat", "--type", "PRE_TOOL_USES")
    assert (done.exit_code, done.stdout) == (0, "")
    assert done.stderr == (
        "warning: the catalogue has no event type PRE_TOOL_USES: did you mean PRE_TOOL_USE?\n"
    )


def test_cat_hides_secrets_unless_raw(spile, fill, make_record):
    """Secrets of foreign producers stay in the archive and out of what people see."""
    value = json.dumps({"payload": {"password": "hunter22", "text": f"use {SECRET} now"}})
    headers = (
        ("content_type", b"application/json"),
        ("authorization", f"Bearer {SECRET}".encode()),
        ("password", b"hunter22"),
        ("note", None),
        ("odd", b"\xff\xfe"),
    )
    fill(
        [
            Record(TOPIC, 0, 0, 1, SECRET.encode(), value.encode(), headers),
            Record(TOPIC, 0, 1, 1, b"\xff", value.encode(), (("content_type", b"text/plain"),)),
            Record(TOPIC, 0, 2, 1, None, None, ()),
        ],
        per_object=3,
    )

    text = spile("cat").stdout
    shown = [json.loads(line) for line in text.splitlines()]
    raw = lines(spile("cat", "--raw"))

    assert SECRET not in text
    assert "hunter22" not in text
    assert dict(map(tuple, shown[0]["headers"]))["odd"] == {"bytes": 2}
    assert dict(map(tuple, shown[0]["headers"]))["note"] is None
    assert shown[0]["value"]["payload"]["text"].startswith("use ")
    assert (shown[1]["key"], shown[1]["value"]) == ({"bytes": 1}, {"bytes": len(value)})
    assert (shown[2]["key"], shown[2]["value"], shown[2]["headers"]) == (None, None, [])
    assert (raw[0]["value"], raw[0]["key"]) == (value, SECRET)
    assert dict(map(tuple, raw[0]["headers"]))["odd"] == {"base64": "//4="}


def test_cat_prints_nothing_that_a_terminal_obeys(spile, fill):
    """Control characters and marks that turn text around are escaped, raw or not."""
    evil = "\x1b]0;x\x07\x9b31m\u202edne\u2066"
    value = json.dumps({"text": evil}, ensure_ascii=False).encode()
    record = Record(TOPIC, 0, 0, 1, evil.encode(), value, ((evil, evil.encode()),))
    fill([record], per_object=1)
    for options in ([], ["--raw"]):
        text = spile("cat", *options).stdout
        assert all(c.isprintable() or c == "\n" for c in text)
        assert json.loads(text)["key"] == evil


def test_verify_ends_with_one_when_something_is_wrong(spile, root, sealed):
    """Whole: 0 and the ranges. Changed: 1 and the object's name."""
    done = spile("verify")
    assert f"{TOPIC}/0: offsets 0-19; 20 records in 2 objects" in done.stdout
    assert done.stdout.endswith("whole\n")
    path = root / sealed[1].manifest.object
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    done = spile("verify", code=1)
    assert f"FOUND {sealed[1].manifest.object}" in done.stdout
    spile("verify", "--quick")
    found = json.loads(spile("verify", "--json", code=1).stdout)
    assert [one["place"] for one in found["findings"]] == [sealed[1].manifest.object]
    path.unlink()
    spile("verify", "--quick", code=1)


def test_restore_makes_a_store_and_refuses_a_full_one(spile, sealed, tmp_path):
    """Rows and offsets of all that is archived; a second time only when told, and nothing new."""
    path = tmp_path / "new.db"
    done = spile("restore", "--store", path)
    assert f"{TOPIC}/0: the persistence worker goes on at offset 20" in done.stdout
    wanted = (40, [(TOPIC, 0, 20), (TOPIC, 1, 10), (OTHER, 0, 10)])
    assert count(path) == wanted
    assert "is not empty" in spile("restore", "--store", path, code=1).stderr
    again = json.loads(spile("restore", "--store", path, "--into-existing", "--json").stdout)
    assert (again["read"], again["written"]) == (0, 0)
    assert count(path) == wanted


@pytest.mark.parametrize("command", ["restore", "replay"])
def test_a_store_gets_the_topics_that_its_worker_reads(spile, sealed, fill, tmp_path, command):
    """Reports of publishers are archived and, as in a live-fed store, neither rows nor offsets."""
    fill([Record(REPORTS, 0, 0, 1, None, b"{}", (("event_type", b"AUDIT_COUNTED"),))], per_object=1)
    path = tmp_path / "new.db"
    done = spile(command, "--store", path)
    assert f"left out: {REPORTS}" in done.stderr
    assert count(path) == (40, [(TOPIC, 0, 20), (TOPIC, 1, 10), (OTHER, 0, 10)])
    assert "40 records read" in spile("replay", "--dry-run", "--store", path).stdout
    assert "41 records read" in spile("replay", "--dry-run").stdout


def test_restore_refuses_an_archive_with_a_gap(spile, root, sealed, tmp_path):
    """Nothing is made of an archive that does not chain."""
    (root / sealed[0].manifest.key).unlink()
    done = spile("restore", "--store", tmp_path / "new.db", code=1)
    assert "is not whole (" in done.stderr
    assert sealed[0].manifest.object in done.stderr
    assert not (tmp_path / "new.db").exists()


def test_restore_leaves_strays_alone(spile, root, folder, sealed, tmp_path):
    """A file that belongs to no archive, or an object without a manifest, stops no restore."""
    (root / "notes.txt").write_text("hello")
    folder.put(sealed[0].manifest.object.replace("hour=03", "hour=04"), sealed[0].data)
    assert len(json.loads(spile("verify", "--json", code=1).stdout)["findings"]) == 2
    done = spile("restore", "--store", tmp_path / "new.db")
    assert "left out: notes.txt" in done.stderr
    assert count(tmp_path / "new.db")[0] == 40


def test_killed_restore_goes_on(spile, fill, make_record, tmp_path):
    """SIGKILL in the middle, twice: in the end each row is there once, with the offsets."""
    fill([make_record(n) for n in range(8_000)], per_object=1_000)
    path = tmp_path / "new.db"
    script = "from spile.services.command import main; main()"
    command = ["archive", "restore", "--into-existing", "--store", str(path)]
    before = 0
    for _ in range(2):
        process = subprocess.Popen([sys.executable, "-c", script, *command])
        while process.poll() is None:
            if path.is_file() and (reached := rows(path)) > before:
                process.kill()
            time.sleep(0.01)
        process.wait()
        before = rows(path)
        assert before > 0
    assert reached < 8_000
    spile("restore", "--into-existing", "--store", path)
    assert count(path) == (8_000, [(TOPIC, 0, 8_000)])


def test_filtered_replay_leaves_the_offsets(spile, sealed, tmp_path):
    """Rows of a filter are added by id: a worker's offsets must not move over the others."""
    path = tmp_path / "some.db"
    spile("replay", "--store", path, "--key", "key", "--until", "2030-01-01", "--partition", "1")
    assert count(path) == (10, [])
    spile("replay", "--store", path, "--backfill", "--limit", "15")
    assert count(path) == (25, [])
    spile("replay", "--store", path)
    assert count(path) == (40, [(TOPIC, 0, 20), (TOPIC, 1, 10), (OTHER, 0, 10)])


def test_a_limit_moves_the_offsets_just_as_far(spile, sealed, tmp_path):
    """An unfiltered replay with a limit ends at an exact offset, and the next one goes on."""
    path = tmp_path / "some.db"
    done = spile("replay", "--store", path, "--limit", "23")
    assert "stopped at the limit" in done.stdout
    assert count(path) == (23, [(TOPIC, 0, 20), (TOPIC, 1, 3)])
    assert spile("replay", "--store", path).stdout.startswith("17 records read, 17 meant")
    assert count(path)[0] == 40


def test_dry_run_counts_and_writes_nothing(spile, sealed, tmp_path):
    """A dry run needs neither store nor broker."""
    done = spile("replay", "--dry-run", "--store", tmp_path / "x.db", "--partition", "1")
    assert done.stdout == "dry run: 10 records read, 10 would be replayed\n"
    assert list(tmp_path.glob("x.db*")) == []


def test_publishing_asks_first(spile, sealed):
    """Without --yes and without an answer nothing is published."""
    done = CliRunner().invoke(command, ["archive", "replay"], input="n\n")
    assert done.exit_code == 1
    assert "publish records of" in done.output
    assert "to their own topics?" in done.output


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["replay", "--to", TOPIC, "--store", "x.db"], "exclude each other"),
        (["replay", "--backfill"], "--backfill is for --store"),
        (["replay", "--store", "x.db", "--resume", "y"], "--resume is for topics"),
        (["restore"], "give either --store or --into-topics"),
        (["restore", "--store", "x.db", "--into-topics"], "give either"),
        (["replay", "--rate", "0"], "Invalid value for '--rate'"),
        (["cat", "--since", "yesterday"], "is neither ISO 8601 nor an age"),
    ],
)
def test_wrong_usage_ends_with_two(spile, sealed, arguments, why):
    """Options that contradict each other are told before anything happens."""
    assert why in spile(*arguments, code=2).stderr


def test_missing_archive_is_told_and_not_made(spile, tmp_path, monkeypatch):
    """A mistyped folder is not made by looking at it."""
    monkeypatch.setenv("SPILE_ARCHIVE", str(tmp_path / "nowhere"))
    for name in ("ls", "cat", "verify"):
        assert "there is no archive" in spile(name, code=1).stderr
    assert not (tmp_path / "nowhere").exists()
