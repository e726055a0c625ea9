"""An archive proves itself: each offset once, each byte as it was written."""

from __future__ import annotations

import contextlib
import os
import random

import msgspec
import pytest

from spile.services.archiver.objects import Manifest
from spile.services.archiver.reading import (
    ArchivedObject,
    ArchiveIndex,
    LiveRange,
    Selection,
    compare_live,
    list_objects,
    verify,
)
from spile.services.archiver.stores import FolderStore
from spile.spi import SpileError, UndecodableError

TOPIC = "dev.agent.tool.recorded.v1"
OTHER = "dev.agent.agent.recorded.v1"
PLACE = (TOPIC, 0)
UNNAMED = "no manifest names this object: it was added, or its manifest is gone"


@pytest.fixture
def sealed(fill, make_record):
    """Three objects of ten records."""
    return fill(make_record(offset) for offset in range(30))


def texts(result):
    """Return the findings as text."""
    return [str(finding) for finding in result.findings]


def test_whole_archive_has_no_findings(folder, fill, make_record, sealed):
    """Ranges that chain, objects that fit: no finding, and the figures of each partition."""
    fill([make_record(n, partition=1) for n in range(5, 9)], per_object=2)

    result = verify(folder)

    assert texts(result) == []
    proof = result.partitions[PLACE]
    assert (proof.first_offset, proof.next_position) == (0, 30)
    assert (proof.objects, proof.count, proof.empty) == (3, 30, [])
    assert proof.size_bytes == sum(len(one.data) for one in sealed)
    proof = result.partitions[TOPIC, 1]
    assert (proof.first_offset, proof.next_position, proof.count) == (5, 9, 4)


def test_offsets_without_records_are_listed(folder, fill, make_record):
    """Markers and compacted records inside, between and before objects are ranges, no findings."""
    offsets = [3, 4, 7, 8, 11, 12]
    fill([make_record(n) for n in offsets], per_object=2, position=2)

    result = verify(folder)

    assert texts(result) == []
    assert result.partitions[PLACE].empty == [(2, 2), (5, 6), (9, 10)]


def test_ranges_chain_across_cutting_rules(folder, fill, make_record):
    """A changed rule begins a new prefix at a boundary: the proof covers both as one range."""
    fill([make_record(n) for n in range(10)], per_object=10)
    fill([make_record(n) for n in range(10, 20)], per_object=5, position=10)

    result = verify(folder)

    assert texts(result) == []
    assert result.partitions[PLACE].next_position == 20
    assert len({key.partition("/")[0] for key in list_objects(folder).sizes}) == 2


@pytest.mark.parametrize("which", [0, 1])
def test_removed_object_is_named(folder, root, sealed, which):
    """An object whose manifest is still there is named as missing."""
    key = sealed[which].manifest.object
    (root / key).unlink()
    assert texts(verify(folder)) == [f"{key}: the object is missing; its manifest is there"]


def test_removed_manifest_is_named(folder, root, sealed):
    """A manifest that is gone leaves a range missing and an object that nobody names."""
    (root / sealed[1].manifest.key).unlink()
    assert texts(verify(folder)) == [
        f"{sealed[2].manifest.key}: offsets 10 to 19 are missing before this object",
        f"{sealed[1].manifest.object}: {UNNAMED}",
    ]


def test_removed_pair_is_found(folder, root, sealed):
    """Object and manifest gone together leave a range that is missing."""
    for key in (sealed[1].manifest.key, sealed[1].manifest.object):
        (root / key).unlink()
    found = texts(verify(folder))
    assert found == [f"{sealed[2].manifest.key}: offsets 10 to 19 are missing before this object"]


def test_added_object_is_named(folder, fill, make_record, sealed):
    """An object that no manifest names is a finding."""
    key = sealed[0].manifest.object.replace("hour=03", "hour=04")
    folder.put(key, sealed[0].data)
    assert len(texts(verify(folder))) == 1
    assert texts(verify(folder))[0].startswith(f"{key}: no manifest names this object")


def test_changed_manifest_is_named(folder, root, sealed):
    """Whatever a manifest says that its records do not, is a finding."""
    good = sealed[1].manifest
    path = root / good.key
    minutes = {"2001-01-01T00:00Z": good.count}
    for change in (
        {"sha256": "0" * 64},
        {"size_bytes": good.size_bytes + 1},
        {"first_timestamp": 5},
        {"latest_timestamp": good.latest_timestamp + 1},
        {"event_minutes": minutes},
        {"event_minutes": {}, "ticks": good.count},
        {"next_position": 21},
        {"next_position": 19},
        {"last_offset": 18, "count": 9, "event_minutes": {"2026-01-02T00:00Z": 9}},
        {"schema_sha256": "0" * 64},
        {"topic": OTHER},
    ):
        path.write_bytes(good.model_copy(update=change).to_json())
        found = texts(verify(folder))
        assert found, change
        assert any(good.key in text or good.object in text for text in found), (change, found)
    path.write_bytes(b"{")
    assert f"{good.key}: manifest {good.key}" in texts(verify(folder))[0]


def test_swapped_objects_are_named(folder, root, sealed):
    """Good objects under each other's keys are findings."""
    first, second = (root / one.manifest.object for one in sealed[:2])
    a, b = first.read_bytes(), second.read_bytes()
    first.write_bytes(b)
    second.write_bytes(a)
    assert len(verify(folder).findings) == 2


def test_overlapping_ranges_are_named(folder, fill, make_record, sealed):
    """Offsets that two objects hold are a finding."""
    fill([make_record(n) for n in range(25, 35)], per_object=10)
    (finding,) = verify(folder).findings
    assert finding.place.endswith("partition=0/00000000000000000025.json")
    assert finding.what == "offsets 25 to 29 are there twice"


def test_live_topic_is_compared(folder, sealed):
    """What the topic has and the archive has not, or neither has any more, is a finding."""

    def found(first, end, place=PLACE):
        result = verify(folder, read_objects=False)
        compare_live(result, {place: LiveRange(first=first, end=end)})
        proof = result.partitions.get(place)
        return texts(result), proof and proof.behind

    assert found(0, 30) == ([], 0)
    assert found(20, 45) == ([], 15)
    assert found(35, 45)[0] == [
        f"{TOPIC}/0: offsets 30 to 34 are neither archived nor in the topic any more"
    ]
    assert "made anew" in found(0, 7)[0][0]
    assert found(0, 4, (OTHER, 1))[0] == [f"{OTHER}/1: nothing is archived; the topic holds 0 to 3"]
    assert found(0, 0, (OTHER, 1))[0] == []


def test_a_young_partition_is_behind(folder, sealed):
    """A partition that the archive never had is no finding while its first object may be open."""
    place = (OTHER, 1)
    result = verify(folder, read_objects=False)
    compare_live(result, {place: LiveRange(first=2, end=5, is_young=True)})
    assert texts(result) == []
    proof = result.partitions[place]
    assert (proof.objects, proof.behind) == (0, 3)


def test_a_finding_names_its_place_once(folder, root, sealed):
    """What a reader says of an object begins with its key, which is not put before it again."""
    key = sealed[0].manifest.object
    path = root / key
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    (text,) = texts(verify(folder))
    assert text.startswith(f"{key} is not what was archived")
    assert text.count(key) == 1


def test_live_records_before_the_archive_are_found(folder, fill, make_record):
    """An archive that began late is told from the topic that still holds more."""
    fill([make_record(n) for n in range(20, 30)])
    result = verify(folder)
    compare_live(result, {PLACE: LiveRange(first=15, end=30)})
    assert texts(result) == [f"{TOPIC}/0: offsets 15 to 19 are in the topic and not in the archive"]


def test_no_flipped_bit_passes(folder, root, fill, make_record):
    """Of 5,000 flipped bits in one object none is read as if nothing had happened."""
    (sealed,) = fill([make_record(n) for n in range(40)], per_object=40)
    path = root / sealed.manifest.object
    opened = ArchivedObject(folder, sealed.manifest)
    assert len(list(opened.records())) == 40
    dice = random.Random(14)
    undetected = 0
    with path.open("r+b") as file:
        for _ in range(5_000):
            place, bit = dice.randrange(len(sealed.data)), 1 << dice.randrange(8)
            os.pwrite(file.fileno(), bytes([sealed.data[place] ^ bit]), place)
            with contextlib.suppress(UndecodableError):
                list(opened.records())
                undetected += 1
            os.pwrite(file.fileno(), sealed.data[place : place + 1], place)
    assert undetected == 0
    assert len(list(opened.records())) == 40


def test_longer_and_shorter_objects_are_refused(folder, root, sealed):
    """An object must have exactly the bytes of its manifest."""
    manifest = sealed[0].manifest
    path = root / manifest.object
    for data in (sealed[0].data + b"\0", sealed[0].data[:-1]):
        path.write_bytes(data)
        with pytest.raises(UndecodableError, match="bytes of its manifest"):
            list(ArchivedObject(folder, manifest).records())


def test_nothing_is_handed_out_of_a_changed_object(folder, root, sealed):
    """The hash is compared before the first record is given, not after the last."""
    data = bytearray(sealed[0].data)
    data[-1] ^= 1
    (root / sealed[0].manifest.object).write_bytes(bytes(data))
    with pytest.raises(UndecodableError, match="sha256"):
        next(ArchivedObject(folder, sealed[0].manifest).records())


@pytest.mark.parametrize(
    "name",
    [
        "manifests/topic=..",
        "manifests/topic=%2e%2e/partition=0/00000000000000000000.json",
        f"manifests/topic={TOPIC}/partition=00/00000000000000000000.json",
        f"manifests/topic={TOPIC}/partition=0/7.json",
        f"manifests/topic={TOPIC}/partition=0/00000000000000000000.json.bak",
        "v1-00000000/topic=%2e%2e%2f/date=2026-01-02/hour=03/0-00000000000000000000.avro",
        f"v1-00000000/topic={TOPIC}/date=2026-01-02/hour=03/x.avro",
        f"v2-00000000/topic={TOPIC}/date=2026-01-02/hour=03/0-00000000000000000000.avro",
        "\x1b]0;title\x07",
    ],
)
def test_foreign_names_are_named_and_not_opened(folder, root, sealed, name):
    """A file that is no part of an archive is a finding, shown without what a terminal obeys."""
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    os.mkfifo(path)  # would hang if it were opened
    (finding,) = verify(folder).findings
    assert finding.place.isprintable()
    assert "is no key of" in finding.what


def test_links_are_never_followed(folder, root, sealed, tmp_path):
    """A link in place of an object, a manifest or a folder leads nowhere."""
    outside = tmp_path / "outside"
    outside.mkdir()
    for one, key in ((0, "object"), (1, "key")):
        path = root / getattr(sealed[one].manifest, key)
        path.rename(outside / path.name)
        path.symlink_to(outside / path.name)
    assert len(verify(folder).findings) >= 2
    with pytest.raises(SpileError, match=r"symbolic link|regular file"):
        list(ArchivedObject(folder, sealed[0].manifest).records())


class Listed(FolderStore):
    """A store that lists what an evil server might; nothing of that may be asked for."""

    def __init__(self, root, keys):
        super().__init__(root)
        self.keys = keys
        self.opened = []

    def list(self, prefix="", *, after=""):
        """List the evil keys too."""
        yield from super().list(prefix, after=after)
        for key in self.keys:
            yield type(next(super().list()))(key=key, size_bytes=1)

    def open(self, key):
        """Note what is asked for."""
        self.opened.append(key)
        return super().open(key)


def test_hostile_listing_opens_nothing_outside(root, sealed):
    """Keys that climb, are absolute, or hold NUL or escapes are refused by name."""
    evil = [
        "../../etc/passwd",
        "/etc/passwd",
        "manifests/../../etc/passwd",
        "manifests/topic=a\0b/partition=0/00000000000000000000.json",
        "manifests/topic=%2e%2e/partition=0/00000000000000000000.json",
        "manifests/topic=../partition=0/00000000000000000000.json",
        f"manifests/topic={TOPIC}/partition=0/../0/00000000000000000000.json",
        "v1-00000000/topic=../date=2026-01-02/hour=03/0-00000000000000000000.avro",
        "x" * 5_000,
    ]
    store = Listed(root, evil)

    result = verify(store)
    index = ArchiveIndex(store)

    # Each is listed twice: among the manifests, and among the objects.
    assert {f.place for f in result.findings} == {key[:200].replace("\0", "?") for key in evil}
    assert all(problem.key.isprintable() for problem in index.problems)
    assert set(store.opened) == {
        name for one in sealed for name in (one.manifest.key, one.manifest.object)
    }


def test_manifest_cannot_name_another_object(folder, root, sealed):
    """A manifest that names a path outside, or another partition's object, is refused."""
    path = root / sealed[0].manifest.key
    for key in ("../../etc/passwd", sealed[1].manifest.object):
        text = sealed[0].manifest.model_copy(update={"object": key}).to_json()
        path.write_bytes(text)
        with pytest.raises(UndecodableError):
            Manifest.from_json(text, key=sealed[0].manifest.key)
        assert verify(folder).findings


def test_selection_limits_what_is_looked_at(folder, root, fill, make_record, sealed):
    """Only the topics and partitions that are asked for are verified."""
    fill([make_record(n, topic=OTHER) for n in range(10)])
    (root / sealed[0].manifest.object).unlink()

    result = verify(folder, Selection(topics=frozenset({OTHER})))

    assert texts(result) == []
    assert list(result.partitions) == [(OTHER, 0)]


@pytest.mark.parametrize(
    "odd",
    [
        pytest.param({"headers": (("", None),) * 1_000_000}, id="headers"),
        pytest.param({"headers": (("n" * 1_900_000, b""),)}, id="header name"),
        pytest.param({"value": random.Random(1).randbytes(20_000_000)}, id="value"),
    ],
)
def test_whatever_a_topic_takes_can_be_read_back(folder, fill, make_record, odd):
    """A hostile record does not lock its neighbours in: 2 MB of headers, or much in little."""
    odd_one = msgspec.structs.replace(make_record(1), **odd)
    fill([make_record(0), odd_one, make_record(2)], per_object=3)
    result = verify(folder)
    assert [str(finding) for finding in result.findings] == []
    assert [proof.count for proof in result.partitions.values()] == [3]
