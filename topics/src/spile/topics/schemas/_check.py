"""Whether a folder of schemas is current, its releases untouched, and the versions honest."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from spile.topics.schemas._export import avro_schemas
from spile.topics.schemas._families import FAMILIES, Family
from spile.topics.schemas._files import (
    AVRO,
    RELEASES,
    Release,
    broken_releases,
    released_families,
    releases,
    stale_files,
)
from spile.topics.schemas._policy import Change, changes
from spile.topics.schemas._versions import Version
from spile.topics.schemas.comparison import SchemaKind, compare


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """
    Something that is wrong with the schemas.

    Attributes:
        place: A file, or a family and its event type and field.
        message: What is wrong.
        way_out: What to do.
    """

    place: str
    message: str
    way_out: str

    def __str__(self) -> str:
        return f"{self.place}: {self.message}"


def check_schemas(folder: Path, families: Iterable[Family] | None = None) -> list[Finding]:
    """
    Check a folder of schemas against the models and against the last releases.

    Args:
        folder: The folder, usually `schemas`.
        families: Those to compare with their last release; all of them by default, and then
            every release must have its family still.

    Raises:
        OSError: The folder cannot be read.
        SchemaError: A release cannot be read.
    """
    found = [
        _from_line(line, "run `spile schemas generate` and commit the files")
        for line in stale_files(folder)
    ]
    found += [
        _from_line(line, "restore it from version control: releases never change")
        for line in broken_releases(folder)
    ]
    if families is None:
        found += _removed(folder)
    for one in FAMILIES.values() if families is None else families:
        known = releases(folder, one.name)
        if not known and families is None:
            found.append(
                Finding(
                    place=one.name,
                    message="was never released, so nothing holds its changes to a rule",
                    way_out="run `spile schemas release` and commit the files",
                )
            )
        if known:
            made = _since(known[-1], one)
            found += made
            found += _avro_since(folder, known[-1], one, seen={each.place for each in made})
    return found


def _removed(folder: Path) -> list[Finding]:
    return [
        Finding(
            place=name,
            message="removed: it was released, and no models stand behind it any more",
            way_out="bring its models back: topics and stores hold its events",
        )
        for name in released_families(folder)
        if name not in FAMILIES
    ]


def _from_line(line: str, way_out: str) -> Finding:
    place, _, message = line.partition(": ")
    return Finding(place=place, message=message, way_out=way_out)


def _since(last: Release, family: Family) -> list[Finding]:
    now = Version.parse(family.version)
    if now < last.version:
        return [
            Finding(
                place=family.name,
                message=f"has the version {now}, but {last.version} is released",
                way_out=f"give it a version after {last.version}",
            )
        ]
    made = changes(
        last.schema,
        family.schema(),
        name=family.name,
        version_fields=family.version_fields,
    )
    return [
        _finding(change, last.version, now)
        for change in made
        if now.major == last.version.major and (change.breaking or now.minor == last.version.minor)
    ]


def _avro_since(
    folder: Path, last: Release, family: Family, *, seen: Collection[str]
) -> Iterator[Finding]:
    """
    Find what a registry refuses though the JSON Schemas agree: names of records, defaults.

    There a publisher of Avro would fail at its first event. Event types with a finding are left
    out: their Avro says the same again.
    """
    if Version.parse(family.version).major != last.version.major:
        return
    home = folder / RELEASES / family.name / str(last.version) / AVRO
    known = {place.partition(":")[0] for place in seen}
    for event_type, schema in avro_schemas([family]).items():
        path = home / f"{event_type}.avsc"
        if event_type in known or not path.is_file():
            continue
        for difference in compare(path.read_text("utf-8"), schema, kind=SchemaKind.AVRO):
            yield Finding(
                place=f"{event_type}: {difference.path} (Avro)",
                message=f"{difference.message}: {last.version} cannot be read",
                way_out=f"take it back, or raise the version to {last.version.major + 1}.0.0 with "
                "a new topic",
            )


def _finding(change: Change, last: Version, now: Version) -> Finding:
    kind = "breaking" if change.breaking else "compatible"
    wanted = f"{last.major + 1}.0.0" if change.breaking else f"{last.major}.{last.minor + 1}.0"
    level = "major" if change.breaking else "minor"
    place, _, rest = str(change).rpartition(": ")
    return Finding(
        place=place,
        message=f"{rest}: a {kind} change needs a new {level}, released is {last}, now {now}",
        way_out=f"take it back, or raise the version to {wanted}"
        + (" with a new topic" if change.breaking else ""),
    )
