"""What a release may change: the rule of the house, stricter than what registries ask."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from spile.topics.schemas._generate import JsonSchema
from spile.topics.schemas.comparison import (
    Difference,
    JsonReading,
    Schema,
    join,
    resolve,
    same,
    types_of,
)

_EITHER: Final = ("oneOf", "anyOf")
_FIELDS: Final = ("properties", "required")


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """
    What differs between two versions of a family.

    Attributes:
        event_type: The event, UPPER_SNAKE_CASE; the family's name where it has no event types.
        field: Path of the field; empty for the event as a whole.
        rule: What happened: `removed`, `renamed`, `retyped`, `tightened`, `loosened`, `required
            made optional`, `optional made required`, `new required field`, `new optional field`,
            `new event type`, `new alternative`.
        message: The facts.
        breaking: Whether it needs a new major version; otherwise a new minor one.
    """

    event_type: str
    field: str
    rule: str
    message: str
    breaking: bool

    def __str__(self) -> str:
        place = f"{self.event_type}: {self.field}" if self.field else self.event_type
        detail = f" ({self.message})" if self.message else ""
        return f"{place}: {self.rule}{detail}"


def changes(
    old: JsonSchema, new: JsonSchema, *, name: str, version_fields: tuple[str, ...] = ()
) -> list[Change]:
    """
    Say what differs between two versions of a family's schema.

    Breaking is what removes, renames, retypes or tightens, and what makes a required field
    optional: a consumer counts on what was promised. Texts and examples are no difference.

    Args:
        old: The released schema.
        new: The schema of today.
        name: Name of the family, for a schema without event types.
        version_fields: Paths of fields that state the version; they differ by right.

    Raises:
        SchemaError: A schema cannot be read.
    """
    before, after = _events(old, name), _events(new, name)
    found: list[Change] = []
    for event_type in sorted({*before, *after}):
        if event_type not in after:
            found.append(_change(event_type, "", "removed", "the event type is gone"))
        elif event_type not in before:
            found.append(_change(event_type, "", "new event type", "", breaking=False))
        else:
            walk = _Walk(old, new, event_type, version_fields)
            found += walk.compare(before[event_type], after[event_type], "")
    return found


def _change(
    event_type: str, field: str, rule: str, message: str, *, breaking: bool = True
) -> Change:
    return Change(event_type=event_type, field=field, rule=rule, message=message, breaking=breaking)


def _events(schema: JsonSchema, name: str) -> dict[str, Schema]:
    for keyword in _EITHER:
        if keyword in schema:
            refs = [str(branch["$ref"]) for branch in schema[keyword]]
            return {ref.rpartition("/")[2]: {"$ref": ref} for ref in refs}
    return {name: schema}


class _Walk:
    """A walk through two schemas of one event, side by side."""

    def __init__(
        self, old: Schema, new: Schema, event_type: str, version_fields: tuple[str, ...]
    ) -> None:
        self._old = old
        self._new = new
        self._event_type = event_type
        self._version_fields = version_fields

    def compare(self, before: Schema, after: Schema, path: str) -> list[Change]:
        if path in self._version_fields:
            return []
        before, after = resolve(before, self._old), resolve(after, self._new)
        if isinstance(before, bool) or isinstance(after, bool):
            return list(self._limits(before, after, path))
        choices = _choices(before), _choices(after)
        if choices[0] is not None and choices[1] is not None:
            old = self._labelled(choices[0], self._old)
            new = self._labelled(choices[1], self._new)
            if old is not None and new is not None:
                return list(self._alternatives(old, new, path))
        elif types_of(before) == types_of(after) == ["object"]:
            return list(self._object(before, after, path))
        elif types_of(before) == types_of(after) == ["array"]:
            return list(self._array(before, after, path))
        return list(self._limits(before, after, path))

    def _object(
        self, before: Mapping[str, Any], after: Mapping[str, Any], path: str
    ) -> Iterator[Change]:
        old, new = _properties(before), _properties(after)
        gone = {name: old[name] for name in old if name not in new}
        fresh = {name: new[name] for name in new if name not in old}
        for name, schema in gone.items():
            other = self._renamed(schema, fresh)
            if other is None or len(gone) > 1:
                yield self._change(join(path, name), "removed", "")
            else:
                yield self._change(join(path, name), "renamed", f"now {other}")
                del fresh[other]
        for name in fresh:
            if name in after.get("required", ()):
                yield self._change(join(path, name), "new required field", "")
            else:
                yield self._change(join(path, name), "new optional field", "", breaking=False)
        for name in old:
            if name in new:
                yield from self._field(name, before, after, path)
        yield from self._limits(_bare(before), _bare(after), path)

    def _field(
        self, name: str, before: Mapping[str, Any], after: Mapping[str, Any], path: str
    ) -> Iterator[Change]:
        was, is_ = (name in schema.get("required", ()) for schema in (before, after))
        if was and not is_:
            yield self._change(join(path, name), "required made optional", "")
        elif is_ and not was:
            yield self._change(join(path, name), "optional made required", "")
        pair = _properties(before)[name], _properties(after)[name]
        yield from self.compare(*pair, join(path, name))

    def _renamed(self, schema: Schema, fresh: Mapping[str, Schema]) -> str | None:
        wanted = resolve(schema, self._old)
        twins = [name for name in fresh if same(resolve(fresh[name], self._new), wanted)]
        return twins[0] if len(twins) == 1 else None

    def _array(
        self, before: Mapping[str, Any], after: Mapping[str, Any], path: str
    ) -> Iterator[Change]:
        yield from self.compare(before.get("items", True), after.get("items", True), f"{path}[]")
        yield from self._limits({**before, "items": True}, {**after, "items": True}, path)

    def _alternatives(
        self, old: Mapping[str, Schema], new: Mapping[str, Schema], path: str
    ) -> Iterator[Change]:
        for label in sorted({*old, *new}):
            if label not in new:
                yield self._change(path, "tightened", f"the alternative {label} is gone")
            elif label not in old:
                yield self._change(path, "new alternative", label, breaking=False)
            else:
                yield from self.compare(old[label], new[label], path)

    def _labelled(self, branches: list[Schema], root: Schema) -> dict[str, Schema] | None:
        """Return alternatives by label; None when two have one, which cannot be told apart."""
        found = {self._label(branch, root): branch for branch in branches}
        return found if len(found) == len(branches) else None

    def _label(self, branch: Schema, root: Schema) -> str:
        """Name an alternative: by its constants, else by its type."""
        found = resolve(branch, root)
        if isinstance(found, bool):
            return str(found)
        constants = {
            name: schema["const"]
            for name, schema in _properties(found).items()
            if isinstance(schema, Mapping) and "const" in schema
        }
        if constants:
            return ", ".join(f"{name} {value}" for name, value in sorted(constants.items()))
        title = f" {found['title']}" if "title" in found else ""
        return " or ".join(types_of(found)) + title

    def _limits(self, before: Schema, after: Schema, path: str) -> Iterator[Change]:
        refused = JsonReading(self._old, self._new).compare(before, after, path)
        allowed = JsonReading(self._new, self._old).compare(after, before, path)
        if _types(before) != _types(after) and (refused or allowed):
            yield self._change(path, "retyped", f"{_types(before)} -> {_types(after)}")
        elif refused:
            yield self._change(path, "tightened", _said(refused[0], path))
        elif allowed:
            yield self._change(path, "loosened", _said(allowed[0], path), breaking=False)

    def _change(self, path: str, rule: str, message: str, *, breaking: bool = True) -> Change:
        return _change(self._event_type, path, rule, message, breaking=breaking)


def _choices(schema: Mapping[str, Any]) -> list[Schema] | None:
    return next((schema[keyword] for keyword in _EITHER if keyword in schema), None)


def _properties(schema: Mapping[str, Any]) -> dict[str, Schema]:
    return schema.get("properties", {})


def _bare(schema: Mapping[str, Any]) -> dict[str, Any]:
    # Fields are looked at one by one; what is left are the object's own rules.
    return {key: value for key, value in schema.items() if key not in _FIELDS}


def _types(schema: Schema) -> str:
    return "anything" if isinstance(schema, bool) else _shown(schema)


def _shown(schema: Mapping[str, Any]) -> str:
    if not {"type", "const", "enum"} & set(schema):
        return "anything" if not set(_EITHER) & set(schema) else "alternatives"
    return " or ".join(sorted(types_of(schema)))


def _said(difference: Difference, path: str) -> str:
    deeper = difference.path.removeprefix(path).lstrip(".")
    return f"{deeper}: {difference.message}" if deeper else difference.message
