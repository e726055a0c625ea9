"""What publisher and readers get: all waiting first, then plain calls."""

from __future__ import annotations

import pytest
from pydantic import SecretStr

from spile.adapters.registry import (
    Basic,
    CompatibilityLevel,
    HttpSchemaRegistry,
    SchemaFraming,
    frame,
    unframe,
)
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


async def test_a_schema_that_is_refused_is_permanent(gate, gated, ids, raw):
    """A definition above 64 KiB never becomes readable, so waiting would not help."""
    large = b'{"schemaType": "JSON", "schema": "' + b"x" * 70_000 + b'"}'
    gate.answers.append(raw("200 OK", large))
    framing = SchemaFraming(gated)
    await framing.prepare_reading([frame(ids[0], b"x")])
    with pytest.raises(UndecodableError, match="limit 65536"):
        framing.schema_of(ids[0])


async def test_reading_from_a_folder_is_the_same(registry, unique, record):
    """What was written with an id is read with its schema, whatever keeps it."""
    framing = SchemaFraming(registry)
    schema_id = await framing.prepare_writing(unique("s"), record(total="int"))
    await framing.prepare_reading([frame(schema_id, b"\x02")])
    assert framing.schema_of(schema_id).schema == record(total="int")
