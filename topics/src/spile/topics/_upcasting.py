"""Payloads of older versions, read as the newest."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from spile.spi import ConfigurationError, InvalidEventError

_VERSION: Final = re.compile(r"([0-9]{1,9})\.([0-9]{1,9})\.[0-9]{1,9}")
_Minor: TypeAlias = tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Upcast:
    """
    One step from an older version of a payload to a newer one.

    Attributes:
        source: Version that is read, `major.minor.patch`.
        target: Version that comes out.
        change: Gets the payload as a JSON object that is its own to change, and returns the newer
            one. Raises `InvalidEventError` for what has no meaning in the newer version; any other
            error refuses the payload too.
    """

    source: str
    target: str
    change: Callable[[dict[str, Any]], dict[str, Any]]


class Upcasts:
    """
    The steps from every known version to the newest, one after the other.

    Args:
        steps: In any order; each source once.
        newest: Version where every chain ends.

    Attributes:
        known: The versions that steps begin at, sorted, and the newest.
        newest: Version where every chain ends.
        steps: As given.

    Raises:
        ConfigurationError: A version is none, two steps have one source, or a chain does not end
            at the newest.
    """

    __slots__ = ("_chains", "_newest", "known", "newest", "steps")

    def __init__(self, steps: Sequence[Upcast], newest: str) -> None:
        by_source: dict[_Minor, Upcast] = {}
        for step in steps:
            source = _minor(step.source)
            if source in by_source:
                raise ConfigurationError(f"two upcasts begin at version {step.source}")
            by_source[source] = step
        self.newest = newest
        self.steps = tuple(steps)
        self._newest = _minor(newest)
        self._chains = {source: _chain(source, by_source, newest) for source in by_source}
        self.known = (*(by_source[source].source for source in sorted(by_source)), newest)

    def __bool__(self) -> bool:
        return bool(self._chains)

    def reads(self, version: str) -> bool:
        """
        Say whether a payload of this version can be read.

        With steps: the versions they begin at, and the newest; without: every minor of the same
        major up to the newest. A patch changes no payload.
        """
        try:
            stated = _minor(version)
        except ConfigurationError:
            return False
        if self._chains:
            return stated in self._chains or stated == self._newest
        return stated[0] == self._newest[0] and stated[1] <= self._newest[1]

    def is_old(self, version: str) -> bool:
        """Say whether a payload of this version must take steps."""
        try:
            return _minor(version) in self._chains
        except ConfigurationError:
            return False

    def apply(self, payload: Mapping[str, Any], version: str) -> dict[str, Any]:
        """
        Return the payload as the newest version has it; the argument stays as it is.

        Raises:
            InvalidEventError: There is no way from this version, or a step refuses the payload.
        """
        if not self.is_old(version):
            raise InvalidEventError(
                f"there is no upcast from version {version[:40]!r}, "
                f"this release reads {', '.join(self.known)}",
                field="schema_version",
            )
        value = _copied(payload)
        for step in self._chains[_minor(version)]:
            value = _changed(step, value)
        return value


def _chain(source: _Minor, by_source: Mapping[_Minor, Upcast], newest: str) -> tuple[Upcast, ...]:
    steps: list[Upcast] = []
    at, end = source, _minor(newest)
    while at != end:
        step = by_source.get(at)
        if step is None or len(steps) > len(by_source):
            raise ConfigurationError(
                f"the upcasts from version {by_source[source].source} do not end at {newest}"
            )
        steps.append(step)
        at = _minor(step.target)
    return tuple(steps)


def _changed(step: Upcast, value: dict[str, Any]) -> dict[str, Any]:
    where = f"the upcast from version {step.source} to {step.target}"
    try:
        changed: Any = step.change(value)
    except InvalidEventError:
        raise
    except Exception as exc:
        # Somebody else's code met a payload that it was not written for: a fact about the payload,
        # which must not end the reader. The text of the error may quote the payload.
        raise InvalidEventError(f"{where} failed: {type(exc).__name__}") from exc
    if not isinstance(changed, dict):
        raise InvalidEventError(f"{where} returned {type(changed).__name__}, expected an object")
    return changed  # pyright: ignore[reportUnknownVariableType]


def _copied(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _copied(v) for k, v in value.items()}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    if isinstance(value, list):
        return [_copied(v) for v in value]  # pyright: ignore[reportUnknownVariableType]
    return value


def _minor(version: str) -> _Minor:
    if (found := _VERSION.fullmatch(version)) is None:
        raise ConfigurationError(f"{version[:40]!r} is no version such as '1.0.0'")
    return int(found[1]), int(found[2])
