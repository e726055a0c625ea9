"""What may change between releases, and what the check of a folder finds."""

from __future__ import annotations

import hashlib
import json
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal
from uuid import UUID

import pytest
from pydantic import BaseModel, ConfigDict, Field, create_model

from spile.spi import ConfigurationError, SchemaError
from spile.topics.schemas import (
    FAMILIES,
    Family,
    Level,
    SchemaKind,
    Version,
    broken_releases,
    changes,
    check_schemas,
    compare,
    family,
    freeze,
    generated_files,
    releases,
    stale_files,
    write_files,
)

Text = (str, ...)
Optional = (str | None, None)


class Address(BaseModel):
    """A part of an event."""

    model_config = ConfigDict(extra="forbid")
    street: str
    number: int | None = None


class NewAddress(BaseModel):
    """That part, with a field more and a rule more."""

    model_config = ConfigDict(extra="forbid", title="Address")
    street: Annotated[str, Field(min_length=1)]
    number: int | None = None
    floor: int | None = None


class Card(BaseModel):
    """One way to pay."""

    kind: Literal["card"] = "card"
    digits: str


class Cash(BaseModel):
    """Another way to pay."""

    kind: Literal["cash"] = "cash"


def _family(version: str = "1.0.0", /, kind: str = "ORDER_PLACED", **fields: Any) -> Family:
    model = create_model("Order", __config__=ConfigDict(extra="forbid"), **fields)
    return Family(
        name="orders", version=version, models={kind: model}, description="Orders, for a test."
    )


def _changes(old: Family, new: Family) -> list[tuple[str, str, bool]]:
    found = changes(old.schema(), new.schema(), name="orders")
    assert {change.event_type for change in found} <= {"ORDER_PLACED"}
    return [(change.field, change.rule, change.breaking) for change in found]


MORE_THAN_0 = Annotated[int, Field(gt=0)]

CASES = [
    ("nothing", {"a": Text}, {"a": Text}, []),
    ("remove optional", {"a": Text, "b": Optional}, {"a": Text}, [("b", "removed", True)]),
    ("remove required", {"a": Text, "b": (int, ...)}, {"a": Text}, [("b", "removed", True)]),
    ("rename", {"a": Text}, {"z": Text}, [("a", "renamed", True)]),
    ("rename optional", {"a": Optional}, {"z": Optional}, [("a", "renamed", True)]),
    ("retype", {"a": Text}, {"a": (int, ...)}, [("a", "retyped", True)]),
    ("widen the type", {"a": (int, ...)}, {"a": (float, ...)}, [("a", "retyped", True)]),
    ("add required", {"a": Text}, {"a": Text, "b": Text}, [("b", "new required field", True)]),
    ("add optional", {"a": Text}, {"a": Text, "b": Optional}, [("b", "new optional field", False)]),
    (
        "add with default",
        {"a": Text},
        {"a": Text, "b": (int, 0)},
        [("b", "new optional field", False)],
    ),
    (
        "required made optional",
        {"a": Text},
        {"a": (str, "x")},
        [("a", "required made optional", True)],
    ),
    (
        "optional made required",
        {"a": (str, "x")},
        {"a": Text},
        [("a", "optional made required", True)],
    ),
    ("tighten", {"a": (int, ...)}, {"a": (MORE_THAN_0, ...)}, [("a", "tightened", True)]),
    ("loosen", {"a": (MORE_THAN_0, ...)}, {"a": (int, ...)}, [("a", "loosened", False)]),
    (
        "take a choice away",
        {"a": (Literal["x", "y", "z"], ...)},
        {"a": (Literal["x", "y"], ...)},
        [("a", "tightened", True)],
    ),
    (
        "add a choice",
        {"a": (Literal["x", "y"], ...)},
        {"a": (Literal["x", "y", "z"], ...)},
        [("a", "loosened", False)],
    ),
    (
        "inside a part",
        {"a": (Address, ...)},
        {"a": (NewAddress, ...)},
        [("a.floor", "new optional field", False), ("a.street", "tightened", True)],
    ),
    (
        "inside a list",
        {"a": (list[Address], ...)},
        {"a": (list[NewAddress], ...)},
        [("a[].floor", "new optional field", False), ("a[].street", "tightened", True)],
    ),
    (
        "items of another type",
        {"a": (list[int], ...)},
        {"a": (list[str], ...)},
        [("a[]", "retyped", True)],
    ),
    (
        "an alternative more",
        {"a": (Annotated[Card | Cash, Field(discriminator="kind")], ...)},
        {"a": (Annotated[Card | Cash | Address, Field()], ...)},
        [("a", "new alternative", False)],
    ),
    (
        "an alternative of two that look alike tightened",
        {"a": (Annotated[str, Field(max_length=5)] | UUID, ...)},
        {"a": (Annotated[str, Field(max_length=2)] | UUID, ...)},
        [("a", "tightened", True)],
    ),
    (
        "an alternative of two that look alike gone",
        {"a": (Annotated[int, Field(le=5)] | Annotated[int, Field(ge=9)] | str, ...)},
        {"a": (Annotated[int, Field(le=5)] | str, ...)},
        [("a", "tightened", True)],
    ),
    (
        "an alternative less",
        {"a": (Card | Cash | Address, ...)},
        {"a": (Card | Cash, ...)},
        [("a", "tightened", True)],
    ),
]


@pytest.mark.parametrize(("old", "new", "wanted"), [case[1:] for case in CASES], ids=lambda _: "")
def test_every_change_has_its_rule(old, new, wanted):
    """Removing, renaming, retyping, tightening, required to optional: breaking; adding: not."""
    assert _changes(_family(**old), _family(**new)) == wanted


def test_texts_are_no_change():
    """Descriptions and titles may change without a new version."""
    old = _family(a=(str, Field(description="old")))
    new = _family(a=(str, Field(description="new", title="A")))
    assert _changes(old, new) == []


def test_event_types_come_and_go():
    """A new event type is compatible, one that is gone is breaking, and both are named."""
    old, new = _family(a=Text), _family(kind="ORDER_SENT", a=Text)
    found = changes(old.schema(), new.schema(), name="orders")
    assert [(one.event_type, one.rule, one.breaking) for one in found] == [
        ("ORDER_PLACED", "removed", True),
        ("ORDER_SENT", "new event type", False),
    ]


def test_the_field_of_the_version_may_differ():
    """The constant that states the version is another one in every release."""
    old = _family(version_=(Literal["1.0"], "1.0"))
    new = _family(version_=(Literal["1.1"], "1.1"))
    assert _changes(old, new) == [("version_", "tightened", True)]
    assert changes(old.schema(), new.schema(), name="x", version_fields=("version_",)) == []


@pytest.fixture
def released(tmp_path):
    """Return a folder of current schemas, with orders 1.0.0 released and a function to check it."""
    write_files(tmp_path, generated_files())
    freeze(tmp_path, _family(a=Text, b=Optional))

    def check(now: Family) -> list[str]:
        return [str(finding) for finding in check_schemas(tmp_path, [now])]

    check.folder = tmp_path
    return check


def test_a_released_family_may_not_go(released):
    """A family without models is as breaking as each of its event types without one."""
    lines = [str(finding) for finding in check_schemas(released.folder)]
    (line,) = [line for line in lines if "never released" not in line]
    assert line.startswith("orders: removed: it was released")


def test_a_breaking_change_needs_a_new_major(released):
    """It fails with the event type, the field and the rule; a new major version is the way out."""
    for version in ("1.0.0", "1.1.0"):
        (line,) = released(_family(version, a=Text, b=(int | None, None)))
        assert line.startswith("ORDER_PLACED: b: retyped (null or string -> integer or null)")
        assert "needs a new major, released is 1.0.0, now " + version in line
    assert released(_family("2.0.0", a=Text, b=(int | None, None))) == []


def test_a_compatible_change_needs_a_new_minor(released):
    """A field more under the same version fails too; a new minor version is the way out."""
    (line,) = released(_family("1.0.1", a=Text, b=Optional, c=Optional))
    assert line.startswith("ORDER_PLACED: c: new optional field: a compatible change")
    assert "needs a new minor" in line
    assert released(_family("1.1.0", a=Text, b=Optional, c=Optional)) == []


def test_what_only_avro_readers_mind_is_found(released):
    """A record of another name is the same JSON, and a registry refuses it: found before that."""
    freeze(released.folder, _family("1.1.0", a=Text, b=Optional, c=(Address | None, None)))
    renamed = create_model("Place", __base__=Address, __config__=None)
    renamed.model_config["title"] = "Address"
    now = _family("1.2.0", a=Text, b=Optional, c=(renamed | None, None))
    (line,) = released(now)
    assert line.startswith("ORDER_PLACED: c (Avro): ")
    assert "1.1.0 cannot be read" in line


def test_a_version_may_not_go_back(released):
    """A family older than its last release is wrong, whatever is in it."""
    (line,) = released(_family("0.9.0", a=Text, b=Optional))
    assert line == "orders: has the version 0.9.0, but 1.0.0 is released"


def test_the_last_release_counts(released):
    """1.10 comes after 1.9: releases are ordered by number, and compared with the newest."""
    for version in ("1.9.0", "1.10.0"):
        freeze(released.folder, _family(version, a=Text, b=Optional, c=Optional))
    known = releases(released.folder, "orders")
    assert [str(release.version) for release in known] == ["1.0.0", "1.9.0", "1.10.0"]
    (line,) = released(_family("1.10.0", a=Text, b=Optional))
    assert "c: removed" in line


def test_a_release_is_never_rewritten(released):
    """Freezing a version again writes nothing, even when the models say something else now."""
    before = _content(released.folder)
    assert freeze(released.folder, _family(a=(int, ...))) == []
    assert _content(released.folder) == before
    with pytest.raises(ConfigurationError, match=r"1\.0\.0 is released already"):
        freeze(released.folder, _family("0.9.0", a=Text))


def _content(folder: Path) -> dict[str, str]:
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_touched_release_is_found(released):
    """A frozen file that is changed, gone or slipped in is named."""
    home = released.folder / "releases" / "orders"
    path = home / "1.0.0" / "orders.json"
    original = path.read_bytes()
    path.write_bytes(original + b" ")
    name = "releases/orders/1.0.0/orders.json"
    assert broken_releases(released.folder) == [f"{name}: changed after its release"]
    path.write_bytes(original)
    assert broken_releases(released.folder) == []
    shutil.copytree(home / "1.0.0", home / "1.1.0")
    added = broken_releases(released.folder)
    assert [line.partition(":")[0] for line in added] == [
        "releases/orders/1.1.0/avro/ORDER_PLACED.avsc",
        "releases/orders/1.1.0/orders.json",
    ]
    shutil.rmtree(home / "1.1.0")
    shutil.rmtree(home / "1.0.0")
    assert f"{name}: released, but missing" in broken_releases(released.folder)


def test_checksums_are_those_of_sha256sum(released):
    """`sha256sum -c SHA256SUMS` in the folder of releases finds what the manifest lists."""
    root = released.folder / "releases"
    for line in (root / "SHA256SUMS").read_text().splitlines():
        digest, name = line.split("  ")
        assert hashlib.sha256((root / name).read_bytes()).hexdigest() == digest


def test_files_that_are_not_current_are_named(tmp_path):
    """Missing, different and left-over files are found, each with its path."""
    write_files(tmp_path, generated_files())
    assert stale_files(tmp_path) == []
    (tmp_path / "envelope.json").write_text("{}\n")
    (tmp_path / "avro" / "PRE_TOOL_USE.avsc").unlink()
    (tmp_path / "avro" / "OLD.avsc").write_text("{}\n")
    assert stale_files(tmp_path) == [
        "avro/PRE_TOOL_USE.avsc: missing",
        "envelope.json: not what the models make",
        "avro/OLD.avsc: no model stands behind it",
    ]


@pytest.mark.parametrize(("text", "what"), [("{", "no JSON"), ("[]", "no schema object")])
def test_a_release_that_cannot_be_read_is_named(released, text, what):
    """A broken file is an error that names family and version."""
    (released.folder / "releases" / "orders" / "1.0.0" / "orders.json").write_text(text)
    with pytest.raises(SchemaError, match=rf"release orders 1\.0\.0: .*{what}"):
        releases(released.folder, "orders")


@pytest.mark.parametrize("text", ["1", "1.2.3.4", "v1.0", "1.02", "", "1.x", "1.0 "])
def test_what_is_no_version_is_refused(text):
    """A version is two or three numbers."""
    with pytest.raises(SchemaError, match="is no version"):
        Version.parse(text)


def test_an_unknown_family_is_refused():
    """The error lists the families there are."""
    with pytest.raises(ConfigurationError, match="session_events"):
        family("nope")


def test_observability_1_1_added_three_fields():
    """What 1.1.0 added to 1.0.0: how a result was cut, and how long the call took."""
    folder = Path(__file__).parents[3] / "schemas"
    old, new = releases(folder, "observability_events")[:2]
    one = FAMILIES["observability_events"]
    found = changes(old.schema, new.schema, name=one.name, version_fields=one.version_fields)
    assert [str(change) for change in found] == [
        f"POST_TOOL_USE: payload.{field}: new optional field"
        for field in ("execution_time_ms", "full_result_size", "result_truncated")
    ]


def test_every_family_has_a_release_of_its_version():
    """What is in use is released, so that the next change is seen."""
    folder = Path(__file__).parents[3] / "schemas"
    for name, one in FAMILIES.items():
        known = [release.version for release in releases(folder, name)]
        assert Version.parse(one.version) in known, name
    text = json.dumps(releases(folder, "session_events")[0].schema)
    assert "session_events:1.0" in text


def test_avro_readers_of_a_release_read_the_one_before():
    """Within a major version the Avro schemas of a release read what the one before wrote."""
    folder = Path(__file__).parents[3] / "schemas"
    compared = 0
    for name in FAMILIES:
        known = releases(folder, name)
        for old, new in pairwise(known):
            if old.version.major != new.version.major:
                continue
            home = folder / "releases" / name
            for path in (home / str(old.version) / "avro").iterdir():
                later = home / str(new.version) / "avro" / path.name
                texts = path.read_text(), later.read_text()
                assert compare(*texts, level=Level.BACKWARD, kind=SchemaKind.AVRO) == []
                compared += 1
    assert compared >= 29


def test_a_field_with_a_default_needs_no_new_major(released):
    """A compatible minor is one for registries too, whatever the default is."""
    added = {
        "c": (int, 5),
        "d": (list[str], []),
        "e": (dict[str, Any], Field(default_factory=dict)),
        "f": (Literal["x", "y"], "x"),
        "g": (Address, Address(street="s")),
    }
    assert released(_family("1.1.0", a=Text, b=Optional, **added)) == []


def test_a_field_that_avro_can_give_no_default_is_found(released):
    """A registry refuses it: what may be None but is not by default."""
    (line,) = released(_family("1.1.0", a=Text, b=Optional, c=(str | None, "x")))
    assert line.startswith("ORDER_PLACED: c (Avro): is not written")
