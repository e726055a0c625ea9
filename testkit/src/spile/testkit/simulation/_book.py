"""The ledger of one simulation, kept in memory and judged by `spile.testkit.ledger`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping

from spile.adapters.memory import MemoryCluster
from spile.spi import PartitionKey
from spile.testkit.ledger import Entry, Observation, Outcome, Seen, check

_Event = tuple[str, int]


class Book:
    """
    Who promised what, and what came of it.

    Args:
        clock: Virtual seconds.

    Attributes:
        acknowledged: Ids whose publisher got an acknowledgement.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.acknowledged: set[str] = set()
        self._clock = clock
        self._entries: list[Entry] = []
        self._events: dict[str, _Event] = {}
        self._effects: defaultdict[str, list[str]] = defaultdict(list)

    def invoke(self, event_id: str, key: str, seq: int) -> None:
        """Note that somebody is about to publish an event, number `seq` of its key."""
        self._events[event_id] = (key, seq)
        self._enter(Outcome.INVOKE, event_id)

    def settle(self, event_id: str, outcome: Outcome) -> None:
        """Note what the publisher was told."""
        self._enter(outcome, event_id)
        if outcome is Outcome.OK:
            self.acknowledged.add(event_id)

    def apply(self, sink: str, event_id: str) -> None:
        """Note that an event took effect in a sink."""
        self._effects[sink].append(event_id)

    def effects(self, sink: str) -> list[str]:
        """Return the ids that took effect in a sink, in order."""
        return list(self._effects[sink])

    def first_effects(self, sink: str) -> list[str]:
        """Return the ids that took effect in a sink, each at its first time."""
        return list(dict.fromkeys(self._effects[sink]))

    def judge(
        self,
        sink: str,
        *,
        dead: Collection[str] = (),
        repeats: bool = True,
        at_least: int = 1,
    ) -> None:
        """
        Compare what was promised with what one sink holds, at the end of a run.

        Args:
            sink: As given to `apply`.
            dead: Ids that went to the dead letter queue on behalf of this sink.
            repeats: Whether an event may take effect twice.
            at_least: Acknowledged events below which the run says nothing.

        Raises:
            AssertionError: An event is lost, doubled, made up, or out of the order of its key.
        """
        rows = [self._seen(event_id) for event_id in self._effects[sink]]
        observation = Observation(
            sink=sink, rows=rows, repeats=repeats, dead=frozenset(dead), committed=_EVERYTHING
        )
        verdict = check(self._entries, [observation], min_acknowledged=at_least)
        if not verdict.valid:
            raise AssertionError(str(verdict))

    def judge_log(self, cluster: MemoryCluster, topic: str, name: Callable[[bytes], str]) -> None:
        """
        Compare what was promised with what stands in a topic.

        Repeats are fine there, and an event of which the publisher knows nothing may stand
        anywhere or nowhere.

        Args:
            cluster: Holds the topic.
            topic: Full name.
            name: Reads the event id from a value.

        Raises:
            AssertionError: As `judge`.
        """
        sink = f"log of {topic}"
        unknown = {e.event_id for e in self._entries if e.outcome is Outcome.INFO}
        unknown -= self.acknowledged
        ids = [name(record.value or b"") for record in cluster.records(topic)]
        self._effects[sink] = [event_id for event_id in ids if event_id not in unknown]
        self.judge(sink)

    def _seen(self, event_id: str) -> Seen:
        key, seq = self._events.get(event_id, ("", 0))
        return Seen(event_id, key, seq, "", -1, -1)

    def _enter(self, outcome: Outcome, event_id: str) -> None:
        key, seq = self._events.get(event_id, ("", 0))
        moment_ns = round(self._clock() * 1e9)
        self._entries.append(
            Entry(outcome=outcome, event_id=event_id, key=key, seq=seq, moment_ns=moment_ns)
        )


_EVERYTHING: Mapping[PartitionKey, int] = {}
"""Nothing is behind at the end of a run: entries have no offsets, so nothing counts as lag."""
