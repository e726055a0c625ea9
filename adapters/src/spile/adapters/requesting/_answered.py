"""Which requests this process has answered, or is about to."""

from __future__ import annotations

import asyncio
from collections import OrderedDict


class Answered:
    """
    The fates of the last requests, by event id.

    Args:
        limit: How many are remembered.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._fates: OrderedDict[str, bool | None] = OrderedDict()
        self._waiters: dict[str, asyncio.Future[bool]] = {}

    def __contains__(self, request_id: str) -> bool:
        return request_id in self._fates

    def begin(self, request_id: str) -> None:
        """Note that a request is in hand; `settle` it in the end, whatever becomes of it."""
        self._fates[request_id] = None
        if len(self._fates) > self._limit:
            self._fates.popitem(last=False)

    def settle(self, request_id: str, *, acknowledged: bool) -> None:
        """Note whether the answer stands on the bus."""
        if request_id in self._fates:
            self._fates[request_id] = acknowledged
        waiter = self._waiters.pop(request_id, None)
        if waiter is not None and not waiter.done():
            waiter.set_result(acknowledged)

    async def was_answered(self, request_id: str) -> bool:
        """Say whether a request was answered before; waits when it is about to be."""
        fate = self._fates.get(request_id, False)
        if fate is not None:
            return fate
        waiter = self._waiters.get(request_id)
        if waiter is None:
            waiter = self._waiters[request_id] = asyncio.get_running_loop().create_future()
        # Of those that wait, one that is cancelled must not take the others along.
        return await asyncio.shield(waiter)
