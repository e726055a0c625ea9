"""What is known about records over which a process died."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from spile.services.runtime import CrashGuard
from spile.spi import RetriableError

TOPIC = "dev.agent.tool.recorded.v1"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "in-hand"


DEATH = """
import importlib.util, os, sys
from pathlib import Path
from types import SimpleNamespace

spec = importlib.util.spec_from_file_location("guarding", sys.argv[1])
guarding = sys.modules["guarding"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(guarding)
guard = guarding.CrashGuard(Path(sys.argv[2]))
offsets = map(int, sys.argv[4:])
with guard.holding([SimpleNamespace(topic=sys.argv[3], partition=0, offset=o) for o in offsets]):
    os.kill(os.getpid(), 9)
"""
"""Loads the one module: the whole package takes a second to import."""


def die_over(path, records):
    """Let a process die with records in hand, for real."""
    module = sys.modules[CrashGuard.__module__].__file__
    offsets = [str(record.offset) for record in records]
    done = subprocess.run(
        [sys.executable, "-c", DEATH, module, str(path), TOPIC, *offsets], check=False
    )
    assert done.returncode == -9


def test_quiet_life_leaves_no_suspects(path, make_record):
    """What was held and let go is not suspected, not even when the process ends later."""
    records = [make_record(offset) for offset in range(3)]
    with CrashGuard(path) as guard, guard.holding(records):
        pass
    assert path.read_bytes() == b""
    with CrashGuard(path) as guard:
        assert not any(map(guard.is_suspect, records))


def test_second_death_over_one_record_is_fatal(path, make_record):
    """A batch is suspected after one death, a record alone is fatal after the second."""
    batch = [make_record(offset) for offset in range(10, 20)]
    die_over(path, batch)
    with CrashGuard(path) as guard:
        assert all(map(guard.is_suspect, batch))
        assert not any(map(guard.is_fatal, batch))
        assert not guard.is_suspect(make_record(20))
        assert not guard.is_suspect(make_record(15, partition=1))
    die_over(path, [batch[5]])
    with CrashGuard(path) as guard:
        assert [record.offset for record in batch if guard.is_fatal(record)] == [15]
        assert not guard.is_suspect(batch[6])


def test_fatal_record_is_remembered_while_another_is_looked_for(path, make_record):
    """Of two records of one batch that kill, the first stays known while the second is found."""
    batch = [make_record(offset) for offset in range(10)]
    for held in (batch, [batch[3]], [batch[7]], [batch[7]]):
        die_over(path, held)
    with CrashGuard(path) as guard:
        assert [record.offset for record in batch if guard.is_fatal(record)] == [3, 7]
        with guard.holding([batch[8]]):
            pass
    with CrashGuard(path) as guard:
        assert [record.offset for record in batch if guard.is_fatal(record)] == [3, 7]
        guard.passed(batch)
        assert not any(map(guard.is_suspect, batch))
    assert path.read_bytes() == b""


def test_death_over_other_records_starts_the_count_anew(path, make_record):
    """Two deaths over different records accuse neither of them."""
    die_over(path, [make_record(1), make_record(2)])
    die_over(path, [make_record(7)])
    with CrashGuard(path) as guard:
        assert guard.is_suspect(make_record(7))
        assert not guard.is_fatal(make_record(7))


def test_suspicion_ends_with_what_was_stored(path, make_record):
    """After a batch went through its records are as any others."""
    batch = [make_record(offset) for offset in range(10)]
    die_over(path, batch)
    with CrashGuard(path) as guard:
        guard.passed(batch[:5])
        assert guard.is_suspect(batch[7])
        guard.passed(batch)
        assert not any(map(guard.is_suspect, batch))


def test_processes_do_not_share_a_file(path, make_record):
    """Beside a living process a second one keeps its own word, and takes over a dead one's."""
    with CrashGuard(path) as first, first.holding([make_record(1)]), CrashGuard(path) as second:
        assert not second.is_suspect(make_record(1))
        with second.holding([make_record(2)]):
            pass
        assert path.read_bytes() != b""
    die_over(path, [make_record(1)])
    with CrashGuard(path) as heir:
        assert heir.is_suspect(make_record(1))


def test_unreadable_word_is_forgotten(path, make_record):
    """A file that says nothing sensible accuses nobody."""
    path.write_bytes(b'{"spans":[["x"')
    with CrashGuard(path) as guard:
        assert not guard.is_suspect(make_record(0))


POISON = """
import asyncio, os, sys
from pathlib import Path
from spile.adapters.dead_letters import DeadLetterQueue
from spile.adapters.delivery import Record
from spile.adapters.memory import MemoryCluster
from spile.services.persistence import Decoder, EventFilter, PersistenceHandler, SqliteEventStore
from spile.services.persistence import _decoding
from spile.services.runtime import CrashGuard
from spile.topics import default_catalogue
import msgspec

records = msgspec.msgpack.decode(Path(sys.argv[2]).read_bytes(), type=list[Record])
decode_envelope = _decoding.decode_envelope

def deadly(value):
    if b"deadly" in value:
        os.kill(os.getpid(), 9)
    return decode_envelope(value)

_decoding.decode_envelope = deadly

async def main():
    cluster = MemoryCluster.of_catalogue(default_catalogue(), "dev")
    store_file = Path(sys.argv[1])
    async with SqliteEventStore(store_file) as store:
        with CrashGuard(store_file.with_name("in-hand")) as guard:
            decoder = Decoder(default_catalogue(), "dev", crash_guard=guard)
            queue = DeadLetterQueue(cluster.sender())
            handle = PersistenceHandler(store, decoder, queue, group="g", crash_guard=guard)
            await handle(records)
        dead = cluster.records(f"{records[0].topic}.dlq")
        print(await store.count(EventFilter()), [bytes(r.value) == b"deadly" for r in dead])

asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("deadly", "deaths"), [pytest.param({4}, 2, id="one"), pytest.param({4, 6}, 4, id="two")]
)
def test_record_that_kills_is_kept_raw_after_the_second_death(
    database, make_record, tmp_path, deadly, deaths
):
    """Two restarts each, then such records are dead letters and their neighbours are stored."""
    records = [make_record(n, **({"value": b"deadly"} if n in deadly else {})) for n in range(10)]
    batch = tmp_path / "batch"
    batch.write_bytes(msgspec.msgpack.encode(records))
    endings = []
    for _ in range(deaths + 1):
        done = subprocess.run(
            [sys.executable, "-c", POISON, str(database), str(batch)],
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
        endings.append((done.returncode, done.stdout.splitlines()[-1:]))
    assert [code for code, _ in endings] == [-9] * deaths + [0]
    assert endings[-1] == (0, [f"{10 - len(deadly)} {[True] * len(deadly)}"])


def test_closed_guard_touches_no_other_file(path, tmp_path, make_record):
    """What is let go after the end empties no file that got the descriptor since."""
    guard = CrashGuard(path)
    held = guard.holding([make_record(0)])
    with guard:
        held.__enter__()
    others = [(tmp_path / str(number)).open("w+b") for number in range(20)]
    for other in others:
        other.write(b"precious")
        other.flush()
    with pytest.raises(ValueError, match="closed"):
        held.__exit__(None, None, None)
    for other in others:
        other.close()
    assert all((tmp_path / str(n)).read_bytes() == b"precious" for n in range(20))


def test_full_disk_is_a_reason_to_wait(make_record):
    """F16: where word cannot be left nothing is begun, and the batch may come again."""
    with (
        CrashGuard(Path("/dev/full")) as guard,
        pytest.raises(RetriableError, match="no space left"),
        guard.holding([make_record(0)]),
    ):
        pytest.fail("it was begun")
