"""An event loop whose time is virtual and whose order of steps comes from a seed."""

from __future__ import annotations

import asyncio
import bisect
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context
from random import Random
from typing import Any, TypeVar, TypeVarTuple, cast

from typing_extensions import override

from spile.testkit.simulation._process import process_of

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

START_S = 1000.0
_MAX_IDLE_STEPS = 200_000
_NO_NETWORK = "a simulation has no network; give the code a sender and a source of its cluster"


class SimulationStuckError(AssertionError):
    """Raised when a simulation cannot go on: everything waits for ever, or nothing ever waits."""


class VirtualLoop(asyncio.BaseEventLoop):
    """
    Runs real asyncio code without waiting: when nothing is ready the time jumps to the next timer.

    Which of the ready tasks goes next is drawn from the seed. What asyncio promises stays: the
    callbacks and new tasks of one task run in the order in which it made them. Threads run in
    line, sockets and subprocesses do not work. Works with the `asyncio` of Python 3.11 to 3.13,
    whose `BaseEventLoop` keeps its ready steps in `_ready` and waits in `_selector.select`.

    Args:
        random: Draws the order.
        shuffled: False runs steps in the order in which they became ready, as real loops do.
    """

    def __init__(self, random: Random, *, shuffled: bool = True) -> None:
        super().__init__()
        self._timeline = _Timeline(self)
        self._selector = self._timeline
        self._ready = self._steps = _Steps(random, self._timeline, shuffled=shuffled)
        self._numbers: dict[asyncio.Task[Any], int] = {}
        self._tidy_at = 100
        self._made = 0
        self._starting = False
        self._steps.fill_in(asyncio.Handle(_do_nothing, (), self))

    @override
    def time(self) -> float:
        """Return virtual seconds; they begin at 1,000."""
        return self._timeline.now

    @override
    def call_soon(
        self,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.Handle:
        """Run a callback soon, in the lane of the task that it belongs to."""
        owner: Any = getattr(callback, "__self__", None)
        if self._starting or not isinstance(owner, asyncio.Task):
            owner = asyncio.current_task(self)
        task = cast("asyncio.Task[Any] | None", owner)
        self._steps.lane = 0 if task is None else self._numbers.get(task, 0)
        return super().call_soon(callback, *args, context=context)

    @override
    def call_soon_threadsafe(
        self,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.Handle:
        """Do as `call_soon`: there are no other threads."""
        return self.call_soon(callback, *args, context=context)

    @override
    def create_task(
        self,
        coro: Generator[Any, None, T] | Coroutine[Any, Any, T],
        *,
        name: object = None,
        context: Context | None = None,
    ) -> asyncio.Task[T]:
        """Start a task and give it the next number, which its lane has."""
        self._starting = True
        try:
            task = super().create_task(coro, name=name, context=context)
        finally:
            self._starting = False
        self._made += 1
        self._numbers[task] = self._made
        if len(self._numbers) > self._tidy_at:
            # Kept until they are done: those of dead processes are known to nobody else.
            self._numbers = {kept: n for kept, n in self._numbers.items() if not kept.done()}
            self._tidy_at = 2 * len(self._numbers) + 100
        return task

    @override
    def run_in_executor(
        self, executor: Any, func: Callable[[*Ts], T], *args: *Ts
    ) -> asyncio.Future[T]:
        """Run the function now; the caller gets its result at its next step."""
        future: asyncio.Future[T] = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as exc:  # noqa: BLE001 - handed to whoever awaits it
            future.set_exception(exc)
        return future

    @override
    async def getaddrinfo(self, *args: Any, **kwargs: Any) -> Any:
        """
        Refuse to leave the simulation.

        Raises:
            SimulationStuckError: Always.
        """
        raise SimulationStuckError(_NO_NETWORK)

    @override
    async def sock_connect(self, sock: Any, address: Any) -> None:
        """
        Refuse to leave the simulation.

        Raises:
            SimulationStuckError: Always.
        """
        raise SimulationStuckError(_NO_NETWORK)

    def calm(self) -> None:
        """Forget how many steps ran without any time passing."""
        self._timeline.idle_steps = 0

    def again(self, handle: asyncio.Handle) -> None:
        """Run a step that was held; called by its process."""
        self._steps.append(handle)

    def _process_events(self, event_list: list[Any]) -> None:  # pyright: ignore[reportUnusedFunction]
        """Nothing comes from outside; called by `BaseEventLoop`."""


class _Timeline:
    """Stands where a loop has its selector: waiting means that the time jumps."""

    def __init__(self, loop: VirtualLoop) -> None:
        self.now = START_S
        self.idle_steps = 0
        self._loop = loop

    def select(self, timeout: float | None) -> list[Any]:
        if timeout is None:
            names = sorted(task.get_name() for task in asyncio.all_tasks(self._loop))
            raise SimulationStuckError(
                f"nothing is ready and no timer is set; these tasks wait for ever: {names}"
            )
        if timeout > 0:
            self.now += timeout
            self.idle_steps = 0
        return []

    def step(self) -> None:
        self.idle_steps += 1
        if self.idle_steps > _MAX_IDLE_STEPS:
            raise SimulationStuckError(
                f"{_MAX_IDLE_STEPS:,} steps ran without any time passing: something polls busily"
            )


class _Steps(deque[asyncio.Handle]):
    """
    Stands where a loop has its queue of ready steps, one lane per task; draws the next lane.

    Lanes have numbers, and the drawing goes by them: the order in which tasks became ready does not
    count, since it may come from a set, whose order differs between processes.
    """

    def __init__(self, random: Random, timeline: _Timeline, *, shuffled: bool) -> None:
        super().__init__()
        self.lane: int | None = None
        self._random = random
        self._timeline = timeline
        self._shuffled = shuffled
        self._lanes: dict[int, deque[asyncio.Handle]] = {}
        self._numbers: list[int] = []
        self._count = 0
        self._timers = 0

    def fill_in(self, nothing: asyncio.Handle) -> None:
        """Give this handle, which does nothing, in place of a step that must not run."""
        nothing.cancel()
        self._nothing = nothing

    @override
    def append(self, handle: asyncio.Handle) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        number, self.lane = self.lane, None
        if not self._shuffled:
            number = 0
        elif number is None:  # a timer: has a lane of its own, in the order of the clock
            self._timers -= 1
            number = self._timers
        lane = self._lanes.get(number)
        if lane is None:
            lane = self._lanes[number] = deque()
            bisect.insort(self._numbers, number)
        lane.append(handle)
        self._count += 1

    @override
    def popleft(self) -> asyncio.Handle:
        self._timeline.step()
        numbers = self._numbers
        index = int(self._random.random() * len(numbers)) if len(numbers) > 1 else 0
        number = numbers[index]
        lane = self._lanes[number]
        handle = lane.popleft()
        self._count -= 1
        if not lane:
            del self._lanes[number], numbers[index]
        process = process_of(handle)
        if process is not None and process.stopped and not handle.cancelled():
            process.hold(handle)
            return self._nothing
        return handle

    @override
    def __len__(self) -> int:
        return self._count

    def __bool__(self) -> bool:
        return self._count > 0

    @override
    def clear(self) -> None:
        self._lanes.clear()
        self._numbers.clear()
        self._count = 0


def _do_nothing() -> None:
    """Stand in for a step."""
