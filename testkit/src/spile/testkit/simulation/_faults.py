"""Which operations of the simulated cluster fail, when, and how."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from random import Random
from typing import Literal, TypeAlias

from spile.adapters.memory import Operation
from spile.spi import BrokerUnavailableError, ClosedError, SpileError
from spile.testkit.simulation._process import Process
from spile.testkit.simulation._trace import Trace

Outcome: TypeAlias = Literal["ok", "failed", "torn", "ack lost"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultRates:
    """
    How often things go wrong; each number is a share of the calls, 0 by default.

    Attributes:
        send_fails: A send fails before anything is written.
        send_torn: Of a send only a part is written, and its failure is told for the rest.
        acks_lost: A send is written and its acknowledgement lost: nobody can know.
        open_fails: Joining a group fails.
        poll_fails: A poll fails.
        commit_fails: A commit fails; half of these are done all the same.
        slow: A call takes time, up to `slow_s`.
        slow_s: Longest time that a slow call takes, 5 s by default.
        crash: The process that calls dies, before the call or after it was done.
    """

    send_fails: float = 0.0
    send_torn: float = 0.0
    acks_lost: float = 0.0
    open_fails: float = 0.0
    poll_fails: float = 0.0
    commit_fails: float = 0.0
    slow: float = 0.0
    slow_s: float = 5.0
    crash: float = 0.0


class FaultPlan:
    """
    Draws faults from the seed until it is healed.

    Args:
        random: Draws.
        trace: Hears of every fault.

    Attributes:
        rates: How often what goes wrong; may be replaced at any time.
        seen: Faults that took effect, by kind.
    """

    def __init__(self, random: Random, trace: Trace) -> None:
        self.rates = FaultRates()
        self.seen: Counter[str] = Counter()
        self._random = random
        self._trace = trace
        self._over = False

    def heal(self) -> None:
        """Let everything succeed from now on."""
        self.rates = FaultRates()

    def end(self) -> None:
        """Refuse everything: the world has ended and nothing may change any more."""
        self.heal()
        self._over = True

    def draw(self, kind: str, share: float) -> bool:
        """Decide whether a fault happens here, and note it."""
        if share <= 0.0 or self._random.random() >= share:
            return False
        self.seen[kind] += 1
        process = Process.current()
        self._trace.note("fault", kind, process.name if process else "-")
        return True

    def outcome_of_send(self) -> Outcome:
        """Draw what becomes of a send."""
        rates = self.rates
        if self.draw("send failed", rates.send_fails):
            return "failed"
        if self.draw("send torn", rates.send_torn):
            return "torn"
        return "ack lost" if self.draw("ack lost", rates.acks_lost) else "ok"

    def cut(self, length: int) -> int:
        """Draw where to cut something of this length."""
        return self._random.randrange(length + 1)

    async def before(self, operation: Operation, about: object) -> None:
        """
        Delay, fail or crash an operation; a `FaultHook`.

        Raises:
            BrokerUnavailableError: It fails.
            ClosedError: The simulation is over.
        """
        del about
        self.check_open()
        await self.delay()
        await self.crash_point()
        rates = self.rates
        failing = {
            "open": rates.open_fails,
            "poll": rates.poll_fails,
            "commit": rates.commit_fails / 2,
        }
        if self.draw(f"{operation} failed", failing.get(operation, 0.0)):
            raise _away()

    async def after(self, operation: Operation) -> None:
        """
        Crash or lose the answer of an operation that was done.

        Raises:
            BrokerUnavailableError: The answer is lost.
            ClosedError: The simulation is over.
        """
        await self.crash_point()
        if operation == "commit" and self.draw("commit answer lost", self.rates.commit_fails / 2):
            raise _away()

    async def delay(self) -> None:
        """Take time, or none."""
        if self.draw("slow", self.rates.slow):
            await asyncio.sleep(self._random.random() * self.rates.slow_s)
            self.check_open()

    async def crash_point(self) -> None:
        """Kill the process that runs here, now and then; does not return then."""
        process = Process.current()
        if process is not None and not process.dead and self.draw("crash", self.rates.crash):
            process.kill()
            await asyncio.get_running_loop().create_future()

    def check_open(self) -> None:
        """Raise `ClosedError` when the simulation is over."""
        if self._over:
            raise ClosedError("the simulation is over")


def _away() -> SpileError:
    return BrokerUnavailableError("the simulated broker is away")
