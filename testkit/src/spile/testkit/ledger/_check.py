"""The judging half of the ledger."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from spile.testkit.ledger._history import Entry, Outcome

_EXAMPLES = 5


class Seen(NamedTuple):
    """One event as a sink holds it; `key` and `seq` as the writer gave them."""

    event_id: str
    key: str
    seq: int
    topic: str
    partition: int
    offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """
    What one sink holds after heal and drain.

    Attributes:
        sink: Name, used in the names of anomalies.
        rows: In the order in which the sink applied them.
        committed: By topic and partition, the offset that the sink says to read next.
        repeats: Whether the same event may stand there twice, as on the bus itself.
        dead: Ids that went to the dead letter queue on behalf of this sink.
    """

    sink: str
    rows: Sequence[Seen]
    committed: Mapping[tuple[str, int], int] = field(default_factory=dict[tuple[str, int], int])
    repeats: bool = False
    dead: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """
    What the ledger says.

    Attributes:
        acknowledged: Events whose publisher got an acknowledgement.
        failed: Events that were provably not sent.
        indefinite: Events of which nobody knows.
        longest_ack_gap_s: Longest time without an acknowledgement.
        anomalies: Counts by name; empty means valid.
        examples: A few event ids by name.
    """

    acknowledged: int
    failed: int
    indefinite: int
    longest_ack_gap_s: float
    anomalies: Mapping[str, int]
    examples: Mapping[str, Sequence[str]]

    @property
    def valid(self) -> bool:
        """Whether nothing was lost, doubled, reordered, made up, and enough happened."""
        return not self.anomalies

    def __str__(self) -> str:
        found = ", ".join(f"{name} {count}" for name, count in sorted(self.anomalies.items()))
        shown = "; ".join(f"{name}: {', '.join(ids)}" for name, ids in self.examples.items() if ids)
        return (
            f"acknowledged {self.acknowledged}, failed {self.failed}, "
            f"indefinite {self.indefinite}, longest ack gap {self.longest_ack_gap_s:.1f} s: "
            + (f"{found} ({shown})" if found else "lost 0, doubled 0, reordered 0")
        )


class _Anomalies:
    def __init__(self) -> None:
        self._found: defaultdict[str, list[str]] = defaultdict(list)

    def add(self, name: str, event_id: str) -> None:
        self._found[name].append(event_id)

    def counts(self) -> dict[str, int]:
        return {name: len(ids) for name, ids in self._found.items()}

    def examples(self) -> dict[str, Sequence[str]]:
        return {name: ids[:_EXAMPLES] for name, ids in self._found.items()}


def check(
    history: Iterable[Entry],
    observations: Iterable[Observation],
    *,
    min_acknowledged: int = 2000,
    faults_seen: int = 0,
    min_faults: int = 0,
) -> Verdict:
    """
    Compare what was promised with what arrived.

    Anomalies: `lost:<sink>` (acknowledged, absent, and the sink has read past it), `unseen:<sink>`
    (absent, and the sink has not come so far: lag, a failure after the drain), `duplicate:<sink>`,
    `phantom:<sink>` (never invoked), `aborted_read:<sink>` (a failed call that arrived),
    `reordered:<sink>` (per key), `divergent` (one position, two ids), `vacuous` (too little
    happened for the verdict to mean anything).

    Args:
        history: Entries of all writers.
        observations: One for each sink.
        min_acknowledged: Below this many acknowledgements the run is vacuous, 2,000 by default.
        faults_seen: Faults that were injected and took effect.
        min_faults: Below this many the run is vacuous.
    """
    last, positions, gap = _fold(history)
    found = _Anomalies()
    acknowledged = {key for key, entry in last.items() if entry.outcome is Outcome.OK}
    for observation in observations:
        _check_sink(observation, last, acknowledged, positions, found)
    if len(acknowledged) < min_acknowledged or faults_seen < min_faults:
        found.add(
            "vacuous",
            f"{len(acknowledged)} acknowledged of {min_acknowledged} and "
            f"{faults_seen} faults of {min_faults} needed",
        )
    return Verdict(
        acknowledged=len(acknowledged),
        failed=sum(entry.outcome is Outcome.FAIL for entry in last.values()),
        indefinite=sum(entry.outcome in {Outcome.INFO, Outcome.INVOKE} for entry in last.values()),
        longest_ack_gap_s=gap,
        anomalies=found.counts(),
        examples=found.examples(),
    )


def _fold(
    history: Iterable[Entry],
) -> tuple[dict[str, Entry], dict[tuple[str, int, int], str], float]:
    """Return the strongest outcome per event, acknowledged positions, and the longest gap."""
    strength = {Outcome.INVOKE: 0, Outcome.FAIL: 1, Outcome.INFO: 2, Outcome.OK: 3}
    last: dict[str, Entry] = {}
    positions: dict[tuple[str, int, int], str] = {}
    moments: list[int] = []
    for entry in history:
        before = last.get(entry.event_id)
        if before is None or strength[entry.outcome] >= strength[before.outcome]:
            last[entry.event_id] = entry
        if entry.outcome is Outcome.OK:
            moments.append(entry.moment_ns)
            if entry.offset is not None:
                positions[entry.topic, entry.partition, entry.offset] = entry.event_id
    gaps = [after - before for before, after in itertools.pairwise(moments)]
    return last, positions, max(gaps, default=0) / 1e9


def _check_sink(
    observation: Observation,
    last: Mapping[str, Entry],
    acknowledged: set[str],
    positions: Mapping[tuple[str, int, int], str],
    found: _Anomalies,
) -> None:
    sink = observation.sink
    seen: set[str] = set()
    newest: dict[str, int] = {}
    for row in observation.rows:
        if row.event_id in seen:
            if not observation.repeats:
                found.add(f"duplicate:{sink}", row.event_id)
            continue
        seen.add(row.event_id)
        entry = last.get(row.event_id)
        if entry is None:
            found.add(f"phantom:{sink}", row.event_id)
        elif entry.outcome is Outcome.FAIL:
            found.add(f"aborted_read:{sink}", row.event_id)
        if row.seq < newest.get(row.key, -1):
            found.add(f"reordered:{sink}", row.event_id)
        newest[row.key] = max(row.seq, newest.get(row.key, -1))
        owner = positions.get((row.topic, row.partition, row.offset), row.event_id)
        if owner != row.event_id:
            found.add("divergent", row.event_id)
    for event_id in acknowledged - seen - observation.dead:
        entry = last[event_id]
        reached = observation.committed.get((entry.topic, entry.partition), 0)
        lag = entry.offset is not None and entry.offset >= reached
        found.add(f"{'unseen' if lag else 'lost'}:{sink}", event_id)
