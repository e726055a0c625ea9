"""One run of a scenario: a seeded world, its end, and its trace."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Generator, Mapping, MutableMapping
from random import Random
from typing import Any, NoReturn, TypeAlias, TypeVar

import structlog

from spile.adapters.memory import MemoryTopic
from spile.testkit.simulation._clock import VirtualClock
from spile.testkit.simulation._cluster import SimulatedCluster
from spile.testkit.simulation._crowd import Crowd, Work
from spile.testkit.simulation._faults import FaultPlan
from spile.testkit.simulation._loop import SimulationStuckError, VirtualLoop
from spile.testkit.simulation._process import Process
from spile.testkit.simulation._trace import Trace

T = TypeVar("T")
_BURIALS = 50


class Simulation:
    """
    A world of its own: loop, clock, cluster, processes, faults.

    Attributes:
        seed: Decides everything that is left open.
        random: Draws of the scenario itself; the loop and the faults draw from generators of
            their own, so that a draw more here does not change all of theirs.
        clock: The wall clock.
        trace: What happened.
        faults: What goes wrong.
        processes: All that were made, the dead too.
        loop: Runs all of it; the scenario's own tasks are made by its `create_task`.
    """

    def __init__(self, seed: int, loop: VirtualLoop) -> None:
        self.seed = seed
        self.random = Random(f"scenario {seed}")  # noqa: S311 - has to repeat, not to be secret
        self.clock = VirtualClock(loop.time)
        self.trace = Trace(loop.time)
        self.faults = FaultPlan(Random(f"faults {seed}"), self.trace)  # noqa: S311 - the same
        self.processes: list[Process] = []
        self.loop = loop

    def cluster(self, topics: Mapping[str, int | MemoryTopic]) -> SimulatedCluster:
        """Return a new cluster that lives under the faults of this world."""
        return SimulatedCluster(
            topics, plan=self.faults, trace=self.trace, clock=self.clock.time_ms
        )

    def process(self, name: str) -> Process:
        """Return a new process; start its work with `Process.start`."""
        process = Process(name)
        self.processes.append(process)
        process.watch(lambda: self._note_change(process))
        return process

    def crowd(self, work: Work, leave: Callable[[str], Awaitable[None]] | None = None) -> Crowd:
        """Return a crowd of processes that do the same work; see `Crowd`."""
        return Crowd(self.process, self.random, work, leave)

    def draw_s(self, longest_s: float) -> float:
        """Draw a number of seconds."""
        return self.random.random() * longest_s

    async def until(self, holds: Callable[[], bool], what: str, limit_s: float = 3600.0) -> None:
        """
        Let virtual time pass until something holds.

        Raises:
            AssertionError: It does not hold within `limit_s` virtual seconds, an hour by default.
        """
        end = self.loop.time() + limit_s
        while not holds():
            if self.loop.time() > end:
                raise AssertionError(f"after {limit_s:.0f} virtual seconds still not: {what}")
            await asyncio.sleep(1.0)

    def _note_change(self, process: Process) -> None:
        state = "died" if process.dead else "stopped" if process.stopped else "went on"
        self.trace.note("process", process.name, state)


Scenario: TypeAlias = Callable[[Simulation], Awaitable[None]]


def simulate(scenario: Scenario, seed: int, *, shuffled: bool = True) -> Trace:
    """
    Run a scenario in a world of its own, without any real waiting.

    The same seed gives the same trace, in any process. When it fails, the error's notes say how
    to run the seed alone and what happened last.

    Args:
        scenario: Sets up, lets things happen, and asserts what must hold.
        seed: Decides everything that is left open.
        shuffled: False runs steps in the order in which they became ready.

    Raises:
        Exception: What the scenario raised.
        SimulationStuckError: Everything waited for ever, or something polled busily.
    """
    loop = VirtualLoop(Random(f"loop {seed}"), shuffled=shuffled)  # noqa: S311 - has to repeat
    world = Simulation(seed, loop)
    broken: list[BaseException] = []
    loop.set_exception_handler(lambda _, context: _collect(broken, context))
    try:
        with world.clock.in_place(seed), _logs_in(world.trace):
            try:
                loop.run_until_complete(_ensure(scenario(world)))
                if broken:
                    _raise(broken[0])
            except BaseException as exc:
                _explain(exc, world)
                raise
            finally:
                _end(loop, world)
    finally:
        loop.close()
    return world.trace


def _collect(broken: list[BaseException], context: dict[str, Any]) -> None:
    error = context.get("exception")
    broken.append(error if isinstance(error, BaseException) else AssertionError(str(context)))


def _raise(error: BaseException) -> NoReturn:
    raise AssertionError(
        f"the event loop caught an error that nobody handled: {error!r}"
    ) from error


async def _ensure(work: Awaitable[None]) -> None:
    await work


def _explain(error: BaseException, world: Simulation) -> None:
    error.add_note(
        f"simulation failed: seed {world.seed} after {world.trace.steps} steps; "
        f"to run it alone: SPILE_SIM_SEED={world.seed} pytest <this test>"
    )
    error.add_note("the last steps were:\n" + "\n".join(list(world.trace.tail)[-60:]))


def _end(loop: VirtualLoop, world: Simulation) -> None:
    """Cancel what still runs, the steps of dead processes too, while nothing has any effect."""
    world.trace.close()
    world.faults.end()
    loop.set_exception_handler(lambda _loop, _context: None)
    loop.calm()
    loop.run_until_complete(_bury(world))


async def _bury(world: Simulation) -> None:
    for process in world.processes:
        process.bury()
    me = asyncio.current_task()
    for _ in range(_BURIALS):
        left = [task for task in asyncio.all_tasks() if task is not me]
        if not left:
            return
        for task in left:
            task.cancel()
        await asyncio.wait(left, timeout=60.0)
    raise SimulationStuckError("tasks that were cancelled do not end")


@contextlib.contextmanager
def _logs_in(trace: Trace) -> Generator[None]:
    """Let the phrases of log lines be steps of the trace instead of output."""

    def note(_logger: Any, level: str, event: MutableMapping[str, Any]) -> NoReturn:
        trace.note("log", level, event.get("event", ""))
        raise structlog.DropEvent

    processors = structlog.get_config()["processors"]
    before = processors.copy()
    processors[:] = [note]
    try:
        yield
    finally:
        processors[:] = before
