"""Background tasks of objects that live past one call."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Coroutine
from typing import Any

_owner: contextvars.ContextVar[object | None] = contextvars.ContextVar(
    "spile_task_owner", default=None
)


class Tasks:
    """
    Owns background tasks: keeps them alive, reports the one that fails, ends them all at the close.

    The seed's API hands out objects that outlive the call that made them, so there is no block that
    a TaskGroup could hang on; this class stands in for it, and is the only place that makes tasks.

    Args:
        on_failure: Called with what a task raised; also when somebody else cancelled it.
    """

    def __init__(self, on_failure: Callable[[BaseException], None]) -> None:
        self._on_failure = on_failure
        self._running: set[asyncio.Task[None]] = set()
        self._ending: set[asyncio.Task[None]] = set()
        self._context = contextvars.copy_context()
        self._context.run(_owner.set, self)

    def is_inside(self) -> bool:
        """Return whether the caller runs in one of these tasks, or in one that they started."""
        return _owner.get() is self

    def start(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Start a task; its name shows in stacks."""
        loop = asyncio.get_running_loop()
        task = loop.create_task(work, name=name, context=self._context.copy())
        self._running.add(task)
        task.add_done_callback(self._done)
        return task

    def cancel(self, task: asyncio.Task[None]) -> None:
        """Cancel one task without a report; does not wait for its end."""
        if not task.done():
            self._ending.add(task)
            task.cancel()

    async def close(self, limit_s: float = 5.0) -> None:
        """Cancel what runs and wait for its end, at most `limit_s` seconds."""
        mine = asyncio.current_task()
        running = [task for task in self._running if task is not mine and not task.done()]
        for task in running:
            self.cancel(task)
        if running:
            await asyncio.wait(running, timeout=limit_s)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        wanted = task in self._ending
        self._ending.discard(task)
        if not task.cancelled():
            failure = task.exception()
        elif wanted:
            failure = None
        else:
            failure = RuntimeError(f"task {task.get_name()!r} was cancelled from outside")
        if failure is not None:
            self._on_failure(failure)
