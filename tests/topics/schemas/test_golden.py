"""What any release wrote stays readable, in every encoding, as the newest version."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import msgspec
import pytest
from pydantic import BaseModel

from spile.topics import EventContract, default_catalogue
from spile.topics.encodings import AvroSchema, SerializationFormat, deserialize
from spile.topics.encodings._forms import _by_fingerprint, _superseded
from spile.topics.events import MODELS, UPCASTS, ObservabilityEvent
from spile.topics.schemas import FAMILIES

GOLDEN = Path(__file__).parent / "golden"
RELEASES = Path(__file__).parents[3] / "schemas" / "releases"


def _lines() -> Iterator[Any]:
    for file in sorted(GOLDEN.glob("*.jsonl")):
        family, _, version = file.stem.rpartition("-")
        for text in file.read_bytes().splitlines():
            line: dict[str, Any] = msgspec.json.decode(text)
            yield pytest.param(line, version, id=f"{family}-{version}-{line['event_type']}")


def _written(event: BaseModel, kind: str) -> Any:
    return msgspec.json.decode(EventContract(kind, MODELS[kind]).prepare(event).payload_json)


@pytest.mark.parametrize(("line", "version"), [*_lines()])
def test_every_release_stays_readable(line, version):
    """The contract reads the payload, `deserialize` the bytes of each encoding: all the same."""
    kind = line["event_type"]
    newest = line.get("newest", line["payload"])
    upcasts = UPCASTS.steps if issubclass(MODELS[kind], ObservabilityEvent) else ()
    contract = EventContract(
        kind, MODELS[kind], schema_version=UPCASTS.newest if upcasts else "1.0.0", upcasts=upcasts
    )
    header = version if version.count(".") == 2 else None
    read = contract.decode(msgspec.json.encode(line["payload"]), header)
    # What was the newest when the file was made may be old by now: it is read the same way.
    assert read == contract.decode(msgspec.json.encode(newest))
    for form in SerializationFormat:
        assert deserialize(base64.b64decode(line[form.value])) == read, form


@pytest.mark.parametrize(
    "family", [family for family in FAMILIES.values() if family.models], ids=lambda f: f.name
)
def test_every_release_has_its_golden_file(family):
    """A version that is released without one could become unreadable unnoticed."""
    released = {folder.name for folder in (RELEASES / family.name).iterdir()}
    assert released == {
        file.stem.rpartition("-")[2] for file in GOLDEN.glob(f"{family.name}-*.jsonl")
    }
    lines = (GOLDEN / f"{family.name}-{family.version}.jsonl").read_bytes().splitlines()
    assert {msgspec.json.decode(line)["event_type"] for line in lines} == set(family.models)


def test_every_released_avro_schema_can_be_read():
    """One that a newer version took the place of goes to `encodings/superseded`."""
    known = {*_by_fingerprint(), *_superseded()}
    missing = [
        str(file.relative_to(RELEASES))
        for file in RELEASES.rglob("*.avsc")
        if AvroSchema.parse(file.read_text()).fingerprint not in known
    ]
    assert missing == []


def test_observability_of_the_catalogue_reads_every_known_version():
    """What a header may state is what the golden files prove."""
    contract = default_catalogue().contracts("dev.agent.tool.recorded.v1")["POST_TOOL_USE"]
    known = {f.stem.rpartition("-")[2] for f in GOLDEN.glob("observability_events-*.jsonl")}
    assert {v for v in known if contract.reads(v)} == known == set(UPCASTS.known)


def test_superseded_schemas_are_those_of_the_releases():
    """What is kept for reading is what was released, defaults and all."""
    folder = files("spile.topics.encodings") / "superseded"
    for file in folder.iterdir():
        event_type, _, version = file.name.removesuffix(".avsc").partition("-")
        (released,) = RELEASES.glob(f"*/{version}/avro/{event_type}.avsc")
        assert file.read_text() == released.read_text()
