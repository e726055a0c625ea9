"""A process of the simulated world, which can stop or die between any two steps."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar, cast

T = TypeVar("T")

_CURRENT: contextvars.ContextVar[Process | None] = contextvars.ContextVar(
    "spile_simulated_process", default=None
)


class ProcessDiedError(Exception):
    """Raised for whoever waits for a simulated process that dies."""


class Process:
    """
    Tasks that live and die together, as those of one operating system process.

    Whatever is started inside belongs to it. While it is stopped none of its steps run: that is
    `kill -STOP`, a long pause of the collector, or a machine that went away. A process that was
    killed never runs again: no `finally`, no callback, no commit.

    Args:
        name: Shows in traces.

    Attributes:
        dead: Whether it was killed.
        stopped: Whether it is stopped or dead.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.dead = False
        self.stopped = False
        self._held: list[asyncio.Handle] = []
        self._watchers: list[Callable[[], None]] = []

    @classmethod
    def current(cls) -> Process | None:
        """Return the process that the caller runs in; None for the world itself."""
        return _CURRENT.get()

    def start(self, work: Coroutine[Any, Any, T], name: str | None = None) -> asyncio.Task[T]:
        """Start a task inside."""
        context = contextvars.copy_context()
        context.run(_CURRENT.set, self)
        loop = asyncio.get_running_loop()
        return loop.create_task(work, name=name or self.name, context=context)

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """
        Start a task inside and wait for it outside.

        Raises:
            ProcessDiedError: It died first.
            Exception: What the task raised.
        """
        task = self.start(work)
        died: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.watch(lambda: died.set_result(None) if self.dead else None)
        await asyncio.wait([task, died], return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ProcessDiedError(f"{self.name} died before its work was done")
        return task.result()

    def watch(self, call: Callable[[], None]) -> None:
        """Let the world know when it stops, goes on or dies."""
        self._watchers.append(call)

    def stop(self) -> None:
        """Run nothing of it until `go_on`; the caller's own step runs to its next `await`."""
        if not self.stopped:
            self.stopped = True
            self._tell()

    def go_on(self) -> None:
        """Run what waited since `stop`; a dead process stays dead."""
        if self.stopped and not self.dead:
            self._thaw()
            self._tell()

    def kill(self) -> None:
        """End it at once, without any cleanup; the caller's step runs to its next `await`."""
        if not self.dead:
            self.dead = self.stopped = True
            self._tell()

    def bury(self) -> None:
        """Let its tasks run again, so that they can be cancelled when the world has ended."""
        self._thaw()

    def hold(self, handle: asyncio.Handle) -> None:
        """Keep a step for later; called by the loop."""
        self._held.append(handle)

    def _tell(self) -> None:
        for call in self._watchers:
            contextvars.Context().run(call)

    def _thaw(self) -> None:
        self.stopped = False
        held, self._held = self._held, []
        loop = asyncio.get_running_loop()
        for handle in held:
            cast("Any", loop).again(handle)


def process_of(handle: asyncio.Handle) -> Process | None:
    """Return the process that a step belongs to."""
    context: contextvars.Context = cast("Any", handle)._context  # noqa: SLF001 - get_context: 3.12
    return context.get(_CURRENT)
