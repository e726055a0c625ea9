"""Workflows one by one, or many agents at work at once; the same seed gives the same events."""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from spile.testkit.scenarios._plans import PLANS
from spile.testkit.scenarios._run import Run
from spile.testkit.scenarios._values import GeneratedEvent, WorkflowScenario
from spile.testkit.scenarios._workflow import Workflow
from spile.topics.events import ObservabilityEvent

_LANES = 8
_PAUSE_S = 20.0
_SCENARIOS = tuple(WorkflowScenario)


class MockEventGenerator:
    """
    Makes up what agents do.

    Two generators with the same seed and start give the same events, ids included, when they are
    asked the same. Ids and durations do not depend on the start.

    Args:
        seed: Decides everything; None takes one by chance.
        start: When the first event happens, aware; now by default.
        embeddings: Whether what is asked and learnt comes with an embedding of 1536 numbers, which
            makes it about 18 KB.
    """

    def __init__(
        self,
        seed: int | None = None,
        *,
        start: datetime | None = None,
        embeddings: bool = False,
    ) -> None:
        self._rng = random.Random(seed)  # noqa: S311 - repeatable, not secret
        self._embeddings = embeddings
        self._start = start or datetime.now(UTC)

    def generate_workflow_scenario(
        self, scenario: WorkflowScenario
    ) -> Iterator[ObservabilityEvent]:
        """
        Make one whole workflow, in the order in which it happens.

        Args:
            scenario: What kind of work.

        Raises:
            ValueError: There is no such scenario.
        """
        return (made.event for made in self.generate_workflow(scenario))

    def generate_workflow(
        self, scenario: WorkflowScenario, *, start: datetime | None = None
    ) -> Iterator[GeneratedEvent]:
        """
        Make one whole workflow, each event with its place in the chain of causes.

        Args:
            scenario: What kind of work.
            start: When it begins; that of the generator by default.

        Raises:
            ValueError: There is no such scenario.
        """
        scenario = WorkflowScenario(scenario)
        # A workflow has its own randomness, so that reading two by turns gives the same as reading
        # them one after the other.
        # The scenario is part of it: what differs must not share ids.
        rng = random.Random(f"{self._rng.getrandbits(64)} {scenario}")  # noqa: S311 - the same
        return self._workflow(scenario, rng, start or self._start).play()

    def generate_traffic(self, *, lanes: int = _LANES) -> Iterator[GeneratedEvent]:
        """
        Make workflows without end, several at once, all events in the order of their times.

        Every lane does one workflow after another, with a short pause between them, and brings
        about seven events in eight seconds of the events' own time.

        Args:
            lanes: How many workflows go on at the same time.
        """
        seeds = [self._rng.getrandbits(64) for _ in range(lanes)]
        ordered = [self._lane(random.Random(seed)) for seed in seeds]  # noqa: S311 - the same
        return heapq.merge(*ordered, key=lambda made: made.event.timestamp)

    def _lane(self, rng: random.Random) -> Iterator[GeneratedEvent]:
        now = self._start + timedelta(seconds=rng.uniform(0, _PAUSE_S))
        while True:
            scenario, own = rng.choice(_SCENARIOS), rng.getrandbits(64)
            workflow = self._workflow(scenario, random.Random(own), now)  # noqa: S311 - the same
            yield from workflow.play()
            now = workflow.run.now + timedelta(seconds=rng.uniform(1, _PAUSE_S))

    def _workflow(self, scenario: WorkflowScenario, rng: random.Random, now: datetime) -> Workflow:
        run = Run(rng=rng, now=now, embeddings=self._embeddings)
        return Workflow(plan=PLANS[scenario], run=run)


def generate_sample_events(count: int, seed: int | None = None) -> list[ObservabilityEvent]:
    """
    Make events of workflows of all kinds, in the order of their times; the last may be cut off.

    Args:
        count: How many.
        seed: Decides everything but the times, which begin now; None takes one by chance.

    Raises:
        ValueError: The count is negative.
    """
    if count < 0:
        raise ValueError(f"count must be 0 or more, got {count}")
    traffic = MockEventGenerator(seed=seed).generate_traffic()
    return [made.event for made in itertools.islice(traffic, count)]
