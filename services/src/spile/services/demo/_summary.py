"""What a demonstration found out, for people and for programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from spile.services.demo._archive import Archived
from spile.services.demo._store import POLL_S, Audit, percentile
from spile.services.demo._traffic import Flight

PERSISTED_IS = (
    f"from calling publish to seeing the committed row from outside, looking every "
    f"{POLL_S * 1000:.0f} ms"
)
"""What the time to persisted means."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """A spread of times in milliseconds; None where nothing was measured."""

    count: int
    p50: float | None
    p95: float | None
    longest: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step that is done, and the seconds that it took."""

    text: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """
    Where to look.

    Attributes:
        bootstrap_servers: The Kafka.
        store: The event store's file.
        archive: The archive's folder.
        worker: Base URL of the worker's health and metrics.
        folder: What this run wrote.
        kept: Whether the folder is still there afterwards.
        own_broker: Whether the Kafka was started for this run.
    """

    bootstrap_servers: str
    store: str
    archive: str
    worker: str
    folder: str
    kept: bool
    own_broker: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """
    The facts of one run.

    Attributes:
        seed: Makes the same events again.
        rate: Events per second that were asked for.
        seconds: How long.
        reached_rate: Events per second that were published.
        workflows: Made-up workflows that began.
        imported: Events of the recorded session.
        published: Events handed to the publisher.
        acknowledged: Events that it confirmed.
        audit: What the store says.
        archived: What the archive says.
        to_acknowledged: Times of the made-up events, from publish to its return.
        to_persisted: Times of the made-up events, from publish to the row in the store.
        failures: Why events were not acknowledged.
        steps: What was done, in order.
        places: Where things are.
    """

    seed: int
    rate: float
    seconds: float
    reached_rate: float
    workflows: int
    imported: int
    published: int
    acknowledged: int
    audit: Audit
    archived: Archived
    to_acknowledged: Spread
    to_persisted: Spread
    failures: Mapping[str, str]
    steps: Sequence[Step]
    places: Places

    @property
    def is_good(self) -> bool:
        """Whether all was acknowledged, is stored once and archived."""
        return (
            self.published == self.acknowledged == self.audit.persisted
            and self.audit.lost == self.audit.duplicated == 0
            and self.archived.is_whole
        )

    def as_json(self) -> dict[str, Any]:
        """Return the same facts as a JSON object."""
        return {
            "published": self.published,
            "acknowledged": self.acknowledged,
            "persisted": self.audit.persisted,
            "archived": self.archived.events,
            "archive_findings": list(self.archived.findings),
            "lost": self.audit.lost,
            "duplicated": self.audit.duplicated,
            "imported": self.imported,
            "generated": self.published - self.imported,
            "workflows": self.workflows,
            "latency_ms": {
                "publish_to_acknowledged": asdict(self.to_acknowledged),
                "publish_to_persisted": {**asdict(self.to_persisted), "measured": PERSISTED_IS},
            },
            "rate": {"asked": self.rate, "reached": self.reached_rate, "seconds": self.seconds},
            "tools": [asdict(row) for row in self.audit.tools],
            "event_types": self.audit.event_types,
            "failures": dict(self.failures),
            "seed": self.seed,
            "steps": [asdict(step) for step in self.steps],
            "places": asdict(self.places),
        }


def spreads(
    flights: Mapping[str, Flight], seen: Mapping[str, float], *, skip: frozenset[str]
) -> tuple[Spread, Spread]:
    """
    Return the times to acknowledged and to persisted.

    Args:
        flights: By event id, when it was sent and acknowledged.
        seen: By event id, when it was seen in the store.
        skip: Ids that are not measured.
    """
    measured = {name: flight for name, flight in flights.items() if name not in skip}
    acknowledged = [
        flight.acknowledged - flight.sent
        for flight in measured.values()
        if flight.acknowledged is not None
    ]
    persisted = [seen[name] - flight.sent for name, flight in measured.items() if name in seen]
    return _spread(acknowledged), _spread(persisted)


def _spread(seconds: list[float]) -> Spread:
    times = sorted(one * 1000 for one in seconds)
    if not times:
        return Spread(count=0, p50=None, p95=None, longest=None)
    return Spread(
        count=len(times),
        p50=round(percentile(times, 0.5), 2),
        p95=round(percentile(times, 0.95), 2),
        longest=round(times[-1], 2),
    )
