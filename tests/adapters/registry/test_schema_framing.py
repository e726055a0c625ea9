"""What publisher and readers get: all waiting first, then plain calls."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from pydantic import SecretStr

from spile.adapters.registry import (
    Basic,
    CompatibilityLevel,
    FileSchemaRegistry,
    HttpSchemaRegistry,
    SchemaFraming,
    StoredSchema,
    frame,
    unframe,
)
from spile.adapters.registry._cache import BoundedCache
from spile.adapters.registry._refusals import Refusals
from spile.spi import (
    IncompatibleSchemaError,
    RegistryUnavailableError,
    RetriableError,
    UnauthorisedError,
    UndecodableError,
)

UNKNOWN = 1_999_999_999


@pytest.fixture
async def ids(schema_registry, unique, order) -> list[int]:
    """Ids of three schemas that are in the registry."""
    async with HttpSchemaRegistry(schema_registry.url) as registry:
        schemas = [order(**{name: "integer"}) for name in ("a", "b", "c")]
        return [await registry.register_schema(unique("s"), schema) for schema in schemas]


async def test_a_kind_of_event_is_registered_once(gate, gated, unique, record):
    """Writing asks the registry at the first event, not at each."""
    framing, subject = SchemaFraming(gated), unique("s")
    first = await framing.prepare_writing(subject, record(total="int"))
    assert await framing.prepare_writing(subject, record(total="int")) == first
    assert len(gate.heads) == 1
    assert await framing.prepare_writing(unique("s"), record(total="int")) == first
    assert len(gate.heads) == 2


async def test_writing_an_incompatible_schema_is_permanent(registry, unique, record):
    """The publisher learns that the registry will not have this schema."""
    framing, subject = SchemaFraming(registry), unique("s")
    await framing.prepare_writing(subject, record(total="int"))
    await registry.set_compatibility_level(CompatibilityLevel.FULL, subject)
    with pytest.raises(IncompatibleSchemaError):
        await framing.prepare_writing(subject, record(total="string"))


async def test_a_batch_is_read_with_one_request_an_id(gate, gated, ids):
    """Each id is asked for once, in whatever number of records and batches."""
    framing = SchemaFraming(gated)
    batch = [frame(schema_id, b"x") for schema_id in ids] * 50
    await framing.prepare_reading(batch)
    await framing.prepare_reading(batch)
    assert len(gate.heads) == 3
    for value in batch:
        opened = unframe(value)
        assert framing.schema_of(opened.schema_id).schema_id == opened.schema_id


async def test_what_has_no_frame_is_left_alone(gate, gated):
    """Tombstones and bytes without a frame need no schema."""
    framing = SchemaFraming(gated)
    await framing.prepare_reading([None, b"", b"{}", b"\1\0\0\0\1x", b"\0\0"])
    assert gate.heads == []


async def test_an_unknown_id_is_permanent_for_its_records_only(gate, gated, ids):
    """Records of an unknown id are undecodable; the rest of the batch is read."""
    framing = SchemaFraming(gated)
    await framing.prepare_reading([frame(UNKNOWN, b"x"), frame(ids[0], b"x")])
    with pytest.raises(UndecodableError, match=f"no schema {UNKNOWN}") as caught:
        framing.schema_of(UNKNOWN)
    assert not caught.value.retriable
    assert framing.schema_of(ids[0]).schema_id == ids[0]
    assert len(gate.heads) == 3  # the unknown one was asked for once more


async def test_a_flood_of_one_unknown_id_costs_little(gate, gated):
    """The grace is given once, not in every batch."""
    framing = SchemaFraming(gated)
    for _ in range(5):
        await framing.prepare_reading([frame(UNKNOWN, b"x")] * 100)
    assert len(gate.heads) == 2


async def test_a_replica_that_is_behind_is_asked_again(gate, gated, ids, raw):
    """An id that becomes known a moment later is no unknown id."""
    behind = b'{"error_code": 40403, "message": "Schema not found"}'
    gate.answers.append(raw("404 Not Found", behind))
    framing = SchemaFraming(gated)
    await framing.prepare_reading([frame(ids[0], b"x")])
    assert framing.schema_of(ids[0]).schema_id == ids[0]


async def test_a_registry_that_is_away_gives_up_no_record(gate, gated, ids, raw):
    """Preparing raises a retriable error, known ids go on, and the rest comes when it is back."""
    framing = SchemaFraming(gated)
    await framing.prepare_reading([frame(ids[0], b"x")])
    gate.answers += [raw("503 Busy")] * 3
    with pytest.raises(RetriableError):
        await framing.prepare_reading([frame(ids[0], b"x"), frame(ids[1], b"x")])
    await framing.prepare_reading([frame(ids[0], b"x")])
    assert framing.schema_of(ids[0]).schema_id == ids[0]
    await framing.prepare_reading([frame(ids[1], b"x")])
    assert framing.schema_of(ids[1]).schema_id == ids[1]


async def test_a_registry_that_hangs_gives_up_no_record(gate, hasty, ids):
    """No answer in time is no word on the schema."""
    gate.stall()
    framing = SchemaFraming(hasty)
    with pytest.raises(RetriableError, match="did not answer"):
        await framing.prepare_reading([frame(schema_id, b"x") for schema_id in ids])


@pytest.mark.parametrize("status", ["500 Oops", "404 Not Found", "302 Found", "200 OK", "400 No"])
async def test_no_odd_answer_gives_up_a_record(gate, gated, ids, raw, status):
    """Whatever else answers in the registry's place, reading pauses."""
    gate.answers += [raw(status, b"<html>")] * 3
    framing = SchemaFraming(gated)
    with pytest.raises(RetriableError):
        await framing.prepare_reading([frame(ids[0], b"x")])
    with pytest.raises(RetriableError):
        framing.schema_of(ids[0])


async def test_wrong_credentials_give_up_no_record(guarded):
    """Reading pauses until the credentials are right; writing says what is wrong."""
    auth = Basic(username="writer", password=SecretStr("wrong"))
    async with HttpSchemaRegistry(guarded.url, auth=auth) as registry:
        framing = SchemaFraming(registry)
        with pytest.raises(RegistryUnavailableError, match="refuses") as caught:
            await framing.prepare_reading([frame(1, b"x")])
        assert isinstance(caught.value.__cause__, UnauthorisedError)
        with pytest.raises(UnauthorisedError):
            await framing.prepare_writing("s", {"type": "string"})


async def test_an_id_that_was_not_prepared_is_retriable(gated):
    """Forgetting to prepare, or too small a memory, never costs a record."""
    with pytest.raises(RegistryUnavailableError, match="schema 1 was not prepared"):
        SchemaFraming(gated).schema_of(1)


async def test_a_batch_may_need_more_than_the_memory_holds(gated, ids):
    """The memory grows to what one batch needs."""
    framing = SchemaFraming(gated, cache_size=1)
    await framing.prepare_reading([frame(schema_id, b"x") for schema_id in ids])
    assert [framing.schema_of(schema_id).schema_id for schema_id in ids] == ids
    await framing.prepare_reading([frame(ids[0], b"x")])
    assert framing.schema_of(ids[0]).schema_id == ids[0]
    with pytest.raises(RetriableError):
        framing.schema_of(ids[1])


async def test_a_schema_that_is_refused_is_permanent(gate, gated, ids, raw):
    """A definition above 64 KiB never becomes readable, so waiting would not help."""
    large = b'{"schemaType": "JSON", "schema": "' + b"x" * 70_000 + b'"}'
    gate.answers.append(raw("200 OK", large))
    framing = SchemaFraming(gated)
    for _ in range(3):
        await framing.prepare_reading([frame(ids[0], b"x")])
        with pytest.raises(UndecodableError, match="limit 65536"):
            framing.schema_of(ids[0])
    assert len(gate.heads) == 1  # it is not sent over again for every batch


async def test_reading_from_a_folder_is_the_same(registry, unique, record):
    """What was written with an id is read with its schema, whatever keeps it."""
    framing = SchemaFraming(registry)
    schema_id = await framing.prepare_writing(unique("s"), record(total="int"))
    await framing.prepare_reading([frame(schema_id, b"\x02")])
    assert framing.schema_of(schema_id).schema == record(total="int")


class _Counting(FileSchemaRegistry):
    """A folder that counts what it is asked for, and takes its time."""

    def __init__(self, folder: Path, *, delay_s: float = 0.0) -> None:
        super().__init__(folder)
        self.asked: list[int] = []
        self._delay_s = delay_s

    async def _fetch(self, schema_id: int) -> StoredSchema:
        self.asked.append(schema_id)
        await asyncio.sleep(self._delay_s)
        return await super()._fetch(schema_id)


FLOOD = range(1_000, 3_000)


async def test_a_flood_of_unknown_ids_is_asked_for_once(tmp_path, record):
    """Neither twice in its batch nor in the batches after it, and good records are read."""
    registry = _Counting(tmp_path)
    good = await registry.register_schema("s", record(total="int"), "AVRO")
    framing = SchemaFraming(registry)
    batch = [frame(schema_id, b"x") for schema_id in (*FLOOD, good)]
    for _ in range(3):
        await framing.prepare_reading(batch)
        assert framing.schema_of(good).schema_id == good
    for schema_id in FLOOD:
        with pytest.raises(UndecodableError, match="no schema"):
            framing.schema_of(schema_id)
    assert sorted(registry.asked) == [good, *FLOOD]


async def test_a_flood_and_a_slow_registry_give_up_no_record(tmp_path, record):
    """A call ends in time, and each brings the batch nearer: only unknown ids are undecodable."""
    registry = _Counting(tmp_path, delay_s=0.01)
    good = [
        await registry.register_schema(f"s{n}", record(**{f"f{n}": "int"}), "AVRO")
        for n in range(3)
    ]
    framing = SchemaFraming(registry, longest_s=0.1)
    flood = FLOOD[:1_000]
    batch = [frame(schema_id, b"x") for schema_id in (*flood, *good)]
    attempts, asked = 0, -1
    while True:
        attempts, before = attempts + 1, asked
        asked = len(registry.asked)
        assert asked > before
        try:
            await framing.prepare_reading(batch)
        except RegistryUnavailableError as exc:
            assert "the rest is asked for at the next attempt" in str(exc)  # noqa: PT017 - any number
        else:
            break
    assert attempts > 1
    assert [framing.schema_of(schema_id).schema_id for schema_id in good] == good
    for schema_id in flood:
        with pytest.raises(UndecodableError):
            framing.schema_of(schema_id)
    assert len(registry.asked) <= len(batch) + 8 * attempts


def test_unknown_ids_are_asked_for_again_after_a_while():
    """They may be registered later: a few are doubted after 5 s, many after 60 s."""
    now = 0.0
    refusals = Refusals(lambda: now)
    few, many = range(8), range(9)
    refusals.note_unknown(many)
    assert refusals.to_ask(few) == []
    now = 5.0
    assert refusals.to_ask(few) == [*few]
    assert refusals.to_ask(many) == []
    now = 60.0
    assert refusals.to_ask(many) == [*many]
    refusals.forget(3)
    assert refusals.reason(3) is None
    assert refusals.reason(4) == "the registry has no schema 4"


def test_a_batch_that_comes_again_keeps_what_is_unknown():
    """What was told at its first attempts is not too old at the later ones."""
    now = 0.0
    refusals = Refusals(lambda: now)
    refusals.note_unknown(range(20))
    now = 59.0
    refusals.prolong(range(30))
    now = 110.0
    assert refusals.to_ask(range(30)) == [*range(20, 30)]


def test_unknown_ids_are_bounded_but_not_in_a_batch():
    """Beyond 100,000 the oldest go, never those that the batch has."""
    refusals = Refusals()
    refusals.note_unknown(range(100_500))
    refusals.begin(frozenset(range(400)))
    assert len(refusals._unknown) == 100_000
    assert refusals.reason(399) is not None
    assert refusals.reason(400) is None
    assert refusals.reason(899) is None
    assert refusals.reason(900) is not None


def test_a_memory_is_bounded_by_weight_but_not_in_a_batch():
    """Large schemas push out what was used longest ago, and never what a batch needs."""
    cache = BoundedCache[int, str](10, max_weight=100)
    for key in range(4):
        cache.put(key, "x", weight=40)
    assert [key for key in range(4) if cache.get(key)] == [2, 3]
    cache.pin(frozenset({2, 5, 6, 7}))
    for key in (5, 6, 7):
        cache.put(key, "x", weight=40)
    assert [key for key in range(8) if cache.get(key)] == [2, 5, 6, 7]
    cache.pin(frozenset({6}))
    assert [key for key in range(8) if cache.get(key)] == [6, 7]
    cache.put(6, "y", weight=1_000)
    assert [key for key in range(8) if cache.get(key)] == [6]
