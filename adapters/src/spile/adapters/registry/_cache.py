"""A map that forgets what was not used for the longest time."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Collection, Hashable
from typing import Any, Final, Generic, TypeVar

import msgspec

KeyT = TypeVar("KeyT", bound=Hashable)
ValueT = TypeVar("ValueT")

MAX_DECODED_BYTES: Final = 8 * 1024 * 1024
"""Most bytes of schemas, as compact JSON, that one cache keeps decoded: up to 90 MB of memory."""

MAX_PARSED_BYTES: Final = 2 * 1024 * 1024
"""Most bytes of schemas, as compact JSON, that one cache keeps parsed: up to 150 MB of memory."""


class BoundedCache(Generic[KeyT, ValueT]):
    """
    A map of bounded size; not for several threads.

    Args:
        size: Largest number of entries.
        max_weight: Largest sum of their weights; no limit by default.
    """

    def __init__(self, size: int, *, max_weight: float = math.inf) -> None:
        self._size = size
        self._max_weight = max_weight
        self._entries: OrderedDict[KeyT, tuple[ValueT, int]] = OrderedDict()
        self._weight = 0
        self._pinned: Collection[KeyT] = ()

    def get(self, key: KeyT) -> ValueT | None:
        """Return what was put under the key, None when it is gone; it counts as used."""
        if (found := self._entries.get(key)) is None:
            return None
        self._entries.move_to_end(key)
        return found[0]

    def put(self, key: KeyT, value: ValueT, *, weight: int = 0) -> None:
        """Keep a value, and forget others, those not pinned, when there is too much."""
        self.drop(key)
        self._entries[key] = value, weight
        self._weight += weight
        self._trim()

    def pin(self, keys: Collection[KeyT]) -> None:
        """
        Keep these, there or to come, above all limits, until others are pinned.

        Args:
            keys: They take the place of those pinned before; give a set, it is looked up in.
        """
        self._pinned = keys
        for key in keys:
            if key in self._entries:
                self._entries.move_to_end(key)
        self._trim()

    def drop(self, key: KeyT) -> None:
        """Forget a key, if it is there."""
        if (found := self._entries.pop(key, None)) is not None:
            self._weight -= found[1]

    def __len__(self) -> int:
        return len(self._entries)

    def _trim(self) -> None:
        while len(self._entries) > self._size or (
            self._weight > self._max_weight and len(self._entries) > 1
        ):
            oldest = next(iter(self._entries))
            if oldest in self._pinned:
                return  # those pinned are the newest, so all that is left is needed
            self.drop(oldest)


def weight_of(schema: Any) -> int:
    """Return the bytes of a schema as compact JSON; what it takes in memory follows from that."""
    return len(msgspec.json.encode(schema))
