"""Processes that come, stop, go on, leave and die at random."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from random import Random
from typing import Any, TypeAlias

from spile.testkit.simulation._process import Process

Work: TypeAlias = Callable[[str], Coroutine[Any, Any, None]]


class Crowd:
    """
    Members of a group, each in a process of its own.

    Args:
        make: Makes a process by its name.
        random: Draws what happens when.
        work: What a member does; gets the member's name, and may return while its tasks run on.
        leave: Ends a member in good order; without it members only die.
    """

    def __init__(
        self,
        make: Callable[[str], Process],
        random: Random,
        work: Work,
        leave: Callable[[str], Awaitable[None]] | None = None,
    ) -> None:
        self.members: list[Process] = []
        self._make = make
        self._random = random
        self._work = work
        self._leave = leave
        self._count = 0

    @property
    def alive(self) -> list[Process]:
        """Members that neither died nor left."""
        return [member for member in self.members if not member.dead]

    def join(self, count: int = 1) -> None:
        """Let new members come."""
        for _ in range(count):
            self._count += 1
            member = self._make(f"member-{self._count}")
            self.members.append(member)
            member.start(self._work(member.name))

    async def stir(self, seconds: float, *, most: int = 3) -> None:
        """
        Let members come, stop, go on, leave and die for so many virtual seconds.

        At the end all that are stopped go on again; there may be none left.

        Args:
            seconds: How long.
            most: Members at one time.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while loop.time() < end:
            await asyncio.sleep(self._random.expovariate(0.25))
            self._disturb(most)
        for member in self.alive:
            member.go_on()

    def _disturb(self, most: int) -> None:
        alive = self.alive
        if not alive or (len(alive) < most and self._random.choice([True, False])):
            self.join()
            return
        victim = self._random.choice(alive)
        what = self._random.choices(["die", "stop", "leave"], [2, 2, 1])[0]
        if victim.stopped:
            victim.go_on()
        elif what == "die":
            victim.kill()
        elif what == "stop" or self._leave is None:
            victim.stop()
        else:
            self.members.remove(victim)
            victim.start(self._end(victim))

    async def _end(self, member: Process) -> None:
        if self._leave is not None:
            await self._leave(member.name)
