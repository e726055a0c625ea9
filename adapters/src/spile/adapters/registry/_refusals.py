"""Ids that a registry had no schema for, or none that is read here, for as long as that holds."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterable
from typing import Final

from spile.adapters.registry._cache import BoundedCache

UNKNOWN_FOR_S: Final = 60.0
"""Seconds for which a registry is believed that it does not know an id, or that it is refused."""

_DOUBTED_AFTER_S: Final = 5.0
_FEW: Final = 8
_MAX_UNKNOWN: Final = 100_000
_MAX_REFUSED: Final = 1_000
_NEVER: Final = (-math.inf, "")


class Refusals:
    """
    What need not be asked for again.

    An id that is unknown may be registered later, so it is believed unknown for 60 s; for 5 s in a
    batch with at most eight of them, where asking again costs nothing. A refusal is believed for
    60 s too. 100,000 unknown ids and 1,000 refused ones are kept, and more while one batch needs
    more.

    Args:
        clock: Seconds, never going back; `time.monotonic` by default.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._unknown: dict[int, float] = {}
        self._refused: BoundedCache[int, tuple[float, str]] = BoundedCache(_MAX_REFUSED)

    def begin(self, wanted: Collection[int]) -> None:
        """Make room, and keep what this batch needs until the next one begins."""
        self._refused.pin(wanted)
        surplus = len(self._unknown) - _MAX_UNKNOWN
        if surplus > 0:
            oldest = [schema_id for schema_id in self._unknown if schema_id not in wanted]
            for schema_id in oldest[:surplus]:
                del self._unknown[schema_id]

    def to_ask(self, missing: Collection[int]) -> list[int]:
        """Return those of the ids that the registry has to be asked for."""
        now = self._clock()
        few = sum(schema_id in self._unknown for schema_id in missing) <= _FEW
        unknown_since = now - (_DOUBTED_AFTER_S if few else UNKNOWN_FOR_S)
        refused_since = now - UNKNOWN_FOR_S
        return [
            schema_id
            for schema_id in missing
            if self._unknown.get(schema_id, -math.inf) <= unknown_since
            and (self._refused.get(schema_id) or _NEVER)[0] <= refused_since
        ]

    def fresh(self, unknown: Iterable[int]) -> list[int]:
        """Return those that were not unknown before, when they are few enough to ask once more."""
        found = [schema_id for schema_id in unknown if schema_id not in self._unknown]
        return found if len(found) <= _FEW else []

    def note_unknown(self, schema_ids: Iterable[int]) -> None:
        """Keep that the registry does not know these, from now on."""
        now = self._clock()
        for schema_id in schema_ids:
            self._unknown.pop(schema_id, None)
            self._unknown[schema_id] = now

    def note_flood(self, schema_ids: Collection[int]) -> None:
        """Keep the same of a batch that must come again; a few are left for its second asking."""
        few = self.fresh(schema_ids)
        self.note_unknown([schema_id for schema_id in schema_ids if schema_id not in few])

    def prolong(self, schema_ids: Iterable[int]) -> None:
        """Count those of the ids that are unknown from now on: their batch is not through yet."""
        self.note_unknown([one for one in schema_ids if one in self._unknown])

    def note_refused(self, schema_id: int, reason: str) -> None:
        """Keep why a schema is refused."""
        self._unknown.pop(schema_id, None)
        self._refused.put(schema_id, (self._clock(), reason))

    def forget(self, schema_id: int) -> None:
        """Forget what was against an id: it is known now."""
        self._unknown.pop(schema_id, None)
        self._refused.drop(schema_id)

    def reason(self, schema_id: int) -> str | None:
        """Return why records of an id are undecodable, None when nothing is known against it."""
        if schema_id in self._unknown:
            return f"the registry has no schema {schema_id}"
        found = self._refused.get(schema_id)
        return None if found is None else found[1]
