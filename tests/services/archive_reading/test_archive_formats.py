"""Any Avro reads an archive: Apache's Java tools and its Python package among them."""

from __future__ import annotations

import io

import avro.datafile
import avro.io
import fastavro
import pytest

from spile.adapters.delivery import Record
from spile.services.archiver.objects import SCHEMA, SCHEMA_SHA256
from spile.services.archiver.reading import ArchivedObject, Container, ReadLimits, RecordDecoder

TOPIC = "dev.agent.tool.recorded.v1"


@pytest.fixture
def sealed(fill, make_record):
    """One object of three blocks: nulls, odd bytes, many headers, and large values."""
    odd = (("a", b"1"), ("a", None), ("", b""), ("\u00fc", b"\xff\x00"))
    records = [
        Record(TOPIC, 0, 3, -1, None, None, ()),
        Record(TOPIC, 0, 5, 0, b"", b"", odd),
        Record(TOPIC, 0, 6, 1_767_323_045_000, bytes(range(256)), bytes(range(256)) * 5_000, odd),
        Record(TOPIC, 0, 8, 1_767_323_045_001, b"k", b"x" * 900_000, odd * 50),
        *(make_record(n) for n in range(1 << 33, (1 << 33) + 500)),
    ]
    (made,) = fill(records, per_object=len(records))
    return made


def test_java_python_and_spile_read_the_same(root, folder, sealed, java_records):
    """Three readers that share no code see the same records."""
    path = root / sealed.manifest.object
    ours = [
        {
            **{name: getattr(record, name) for name in ("topic", "partition", "offset")},
            **{name: getattr(record, name) for name in ("timestamp", "key", "value")},
            "headers": [{"name": name, "value": value} for name, value in record.headers],
        }
        for record in ArchivedObject(folder, sealed.manifest).records()
    ]
    data = io.BytesIO(path.read_bytes())
    with avro.datafile.DataFileReader(data, avro.io.DatumReader()) as reader:
        by_package = list(reader)

    assert len(ours) == 504
    assert by_package == ours
    assert java_records(path) == ours


def test_java_writes_what_we_read(folder, sealed, avro_tools, root, tmp_path):
    """A container that Java made of the same records, by the same codec, reads the same."""
    # It writes the schema in another form, a marker of its own, and frames without their size.
    made = tmp_path / "java.avro"
    avro_tools("recodec", "--codec", "zstandard", root / sealed.manifest.object, made)
    data = made.read_bytes()
    with avro.datafile.DataFileReader(io.BytesIO(data), avro.io.DatumReader()) as reader:
        schema = reader.get_meta("avro.schema")

    limits = ReadLimits()
    container = Container(io.BytesIO(data), name="java", limits=limits, schemas=[schema])
    decoder = RecordDecoder("java", TOPIC, 0, limits)
    read = [record for block in container.blocks() for record in decoder.records(block)]

    assert data != sealed.data
    assert read == list(ArchivedObject(folder, sealed.manifest).records())


def test_fingerprint_is_that_of_avro(sealed):
    """The manifest's fingerprint is Avro's SHA-256 of the canonical form."""
    found = fastavro.schema.fingerprint(SCHEMA, "SHA-256")
    assert found == SCHEMA_SHA256 == sealed.manifest.schema_sha256
