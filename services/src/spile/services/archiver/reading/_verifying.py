"""Whether an archive is whole: every offset once, every object as it was written."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from spile.services.archiver.objects import (
    CuttingRule,
    Manifest,
    ObjectKey,
    PartitionCutter,
)
from spile.services.archiver.reading._index import ArchiveIndex, list_objects
from spile.services.archiver.reading._opening import ArchivedObject
from spile.services.archiver.reading._selection import Selection
from spile.services.archiver.stores import ArchiveStore
from spile.spi import PartitionKey, UndecodableError

_FACTS: Final = (
    "schema_sha256",
    "topic",
    "partition",
    "count",
    "first_offset",
    "last_offset",
    "next_position",
    "first_timestamp",
    "last_timestamp",
    "earliest_timestamp",
    "latest_timestamp",
    "ticks",
    "event_minutes",
)
"""What a manifest says that its object's records must say too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """
    Something that is not as it should be.

    Attributes:
        place: Key of the object or manifest, or topic and partition.
        what: What is wrong.
        is_stray: Whether it only lies beside the archive: all that manifests name is untouched.
    """

    place: str
    what: str
    is_stray: bool = False

    def __str__(self) -> str:
        # What a reader says of an object begins with the key.
        return self.what if self.what.startswith(self.place) else f"{self.place}: {self.what}"


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveRange:
    """
    What a topic's partition holds now.

    Attributes:
        first: First offset that the log still has.
        end: Offset behind the last record.
        is_young: Whether the oldest of its records may still be in the archiver's open object; an
            archive that has nothing of the partition is then only behind.
    """

    first: int
    end: int
    is_young: bool = False


@dataclass(slots=True, kw_only=True)
class PartitionProof:
    """
    What was proven of one partition.

    Attributes:
        first_offset: Where the archive begins.
        next_position: First offset that is not archived.
        objects: How many objects.
        count: Records.
        size_bytes: Bytes of the objects.
        empty: Ranges of offsets, both ends in it, that held no record: markers of transactions,
            what compaction or the end of a transaction took.
        behind: Records that the live topic has beyond; None when it was not asked.
    """

    first_offset: int
    next_position: int
    objects: int = 0
    count: int = 0
    size_bytes: int = 0
    empty: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    behind: int | None = None


@dataclass(slots=True, kw_only=True)
class Verification:
    """
    What a look at the whole archive showed.

    Attributes:
        partitions: By topic and number.
        findings: Empty when all is as it should be.
    """

    partitions: dict[PartitionKey, PartitionProof] = field(
        default_factory=dict[PartitionKey, PartitionProof]
    )
    findings: list[Finding] = field(default_factory=list[Finding])

    def find(self, place: str, what: str, *, is_stray: bool = False) -> None:
        """Note a finding."""
        self.findings.append(Finding(place=place, what=what, is_stray=is_stray))


def verify(
    store: ArchiveStore,
    selection: Selection | None = None,
    *,
    read_objects: bool = True,
    on_object: Callable[[str], None] | None = None,
) -> Verification:
    """
    Compare manifests, objects and records with one another.

    Args:
        store: Where the archive is.
        selection: Which partitions to look at; all by default.
        read_objects: Whether to read each object; without, hashes and records are not compared.
        on_object: Told each manifest's key, when its object was looked at.

    Raises:
        RetriableError: The store is away.
    """
    # Objects first: one that is archived meanwhile gets its manifest after it was listed here.
    objects = list_objects(store, selection)
    index = ArchiveIndex(store, selection)
    result = Verification()
    for problem in (*objects.problems, *index.problems):
        result.find(problem.key, problem.what, is_stray=True)
    for partition in index.partitions:
        for key, manifest in index.manifests(partition):
            if isinstance(manifest, Manifest):
                _look(result, index, manifest, objects.sizes, read_objects=read_objects)
            else:
                result.find(key, str(manifest))
            if on_object is not None:
                on_object(key)
    for key in objects.sizes:
        if not _has_manifest_by_now(store, key):
            what = "no manifest names this object: it was added, or its manifest is gone"
            result.find(key, what, is_stray=_is_covered(result, ObjectKey.parse(key)))
    return result


def _look(
    result: Verification,
    index: ArchiveIndex,
    manifest: Manifest,
    objects: dict[str, int],
    *,
    read_objects: bool,
) -> None:
    """Look at one object."""
    partition = (manifest.topic, manifest.partition)
    start = manifest.start_position
    proof = result.partitions.setdefault(
        partition, PartitionProof(first_offset=start, next_position=start)
    )
    _chain(result, proof, manifest)
    size = objects.pop(manifest.object, None)
    if size is None:  # listed before it was written, or gone
        listed = index.store.stat(manifest.object)
        size = None if listed is None else listed.size_bytes
    if size is None:
        result.find(manifest.object, "the object is missing; its manifest is there")
    elif size != manifest.size_bytes:
        what = f"the object has {size} bytes, its manifest says {manifest.size_bytes}"
        result.find(manifest.object, what)
    elif read_objects:
        _examine(result, proof, index.opened(manifest))


def _is_covered(result: Verification, key: ObjectKey) -> bool:
    """Say whether the first record of an object is in the range that manifests prove."""
    proof = result.partitions.get((key.topic, key.partition))
    return proof is not None and proof.first_offset <= key.first_offset < proof.next_position


def _has_manifest_by_now(store: ArchiveStore, key: str) -> bool:
    """Look again for the manifest of an object that was being archived when it was listed."""
    parsed = ObjectKey.parse(key)
    partition = (parsed.topic, parsed.partition)
    which = Selection(topics=frozenset({parsed.topic}), partitions=frozenset({parsed.partition}))
    index = ArchiveIndex(store, which)
    if partition not in index.partitions:
        return False
    for _, manifest in index.manifests(partition, position=parsed.first_offset):
        return isinstance(manifest, Manifest) and manifest.object == key
    return False


def _chain(result: Verification, proof: PartitionProof, manifest: Manifest) -> None:
    """Hold the range of one object to the end of the ones before."""
    start, first = manifest.start_position, manifest.first_offset
    reached = proof.next_position
    if start > reached:
        what = f"offsets {reached} to {start - 1} are missing before this object"
        result.find(manifest.key, what)
    elif start < reached:
        what = f"offsets {start} to {min(reached, manifest.next_position) - 1} are there twice"
        result.find(manifest.key, what)
    if first > max(start, reached):
        proof.empty.append((max(start, reached), first - 1))
    proof.next_position = max(reached, manifest.next_position)
    proof.objects += 1
    proof.count += manifest.count
    proof.size_bytes += manifest.size_bytes


def _examine(result: Verification, proof: PartitionProof, opened: ArchivedObject) -> None:
    """Read one object and compare it with its manifest."""
    manifest = opened.manifest
    # Cut anew at its last record, the records give the manifest that they should have.
    rule = CuttingRule(records=manifest.count, size_bytes=2**62, window=timedelta.max)
    cutter = PartitionCutter(
        rule, manifest.topic, manifest.partition, position=manifest.start_position
    )
    made: Manifest | None = None
    count, last = 0, manifest.first_offset - 1
    empty: list[tuple[int, int]] = []
    try:
        for record in opened.records():
            count += 1
            if record.offset > last + 1:
                empty.append((last + 1, record.offset - 1))
            last = record.offset
            if made is None and (sealed := cutter.add(record)):
                made = sealed[0].manifest
    except UndecodableError as exc:
        result.find(manifest.object, str(exc))
        return
    proof.empty.extend(empty)
    if manifest.next_position > last + 1:
        proof.empty.append((last + 1, manifest.next_position - 1))
    if made is None or count != manifest.count:
        what = f"the object has {count} records, its manifest says {manifest.count}"
        result.find(manifest.object, what)
        return
    for name in _FACTS:
        said, found = getattr(manifest, name), getattr(made, name)
        if said != found:
            what = f"{name} is {str(said)[:80]}, the object's records say {str(found)[:80]}"
            result.find(manifest.key, what)
    if _hour(manifest.object) != _hour(made.object):
        what = f"its first record belongs under {'/'.join(_hour(made.object))}"
        result.find(manifest.object, what)


def _hour(key: str) -> tuple[str, str]:
    parsed = ObjectKey.parse(key)
    return parsed.date, parsed.hour


def compare_live(result: Verification, live: Mapping[PartitionKey, LiveRange]) -> None:
    """
    Add to a verification what the live topics say otherwise.

    Args:
        result: Of a verification that is over.
        live: What the topics hold, asked for after it: the archive grows meanwhile.
    """
    for partition, now in live.items():
        place = f"{partition[0]}/{partition[1]}"
        proof = result.partitions.get(partition)
        if proof is None:
            if now.end > now.first and now.is_young:
                result.partitions[partition] = PartitionProof(
                    first_offset=now.first, next_position=now.first, behind=now.end - now.first
                )
            elif now.end > now.first:
                what = f"nothing is archived; the topic holds {now.first} to {now.end - 1}"
                result.find(place, what)
            continue
        proof.behind = max(0, now.end - max(proof.next_position, now.first))
        for what in _differences(proof, now):
            result.find(place, what)


def _differences(proof: PartitionProof, now: LiveRange) -> Iterator[str]:
    if proof.next_position > now.end:
        yield (
            f"the archive goes up to {proof.next_position - 1}, the topic ends at {now.end}: "
            "it was deleted and made anew"
        )
        return
    if now.first > proof.next_position:
        yield (
            f"offsets {proof.next_position} to {now.first - 1} are neither archived nor in the "
            "topic any more"
        )
    if now.first < proof.first_offset and now.end > now.first:
        until = min(proof.first_offset, now.end) - 1
        yield f"offsets {now.first} to {until} are in the topic and not in the archive"
