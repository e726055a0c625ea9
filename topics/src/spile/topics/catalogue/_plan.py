"""What separates the topics of a cluster from the catalogue; pure, so it can be shown first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal

from spile.topics.catalogue._spec import TopicSpec

RELAXED_ENVIRONMENTS = ("dev", "test")
"""Where a topic may have fewer copies than the catalogue says, for want of brokers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicState:
    """
    A topic as it is on a cluster.

    Attributes:
        partitions: Their number.
        replication: Copies of each partition, the smallest number when they differ.
        config: Settings in force, defaults included.
    """

    partitions: int
    replication: int
    config: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicSetup:
    """
    How a topic is to be made.

    Attributes:
        topic: Full name.
        partitions: Their number.
        replication: Copies of each partition.
        config: Settings that the catalogue answers for; all others are the cluster's.
        notes: What differs from the catalogue, and why.
    """

    topic: str
    partitions: int
    replication: int
    config: Mapping[str, str]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """
    One thing in which a topic is not as the catalogue says.

    Attributes:
        topic: Full name.
        setting: `partitions`, `replication`, or the name of a setting.
        wanted: As the catalogue says.
        present: As it is; None when there is no such setting.
        action: `set` is done by apply; `grow` is too, with leave to re-key; `never` is only told,
            as it would lose records or move them: fewer partitions, or other replication.
    """

    topic: str
    setting: str
    wanted: str
    present: str | None
    action: Literal["set", "grow", "never"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """
    What `apply` would do, and what it would not.

    Attributes:
        missing: Topics to make.
        drifted: Where present topics differ.
        unknown: Topics on the cluster that the catalogue does not have; they are left alone.
    """

    missing: tuple[TopicSetup, ...] = ()
    drifted: tuple[Difference, ...] = ()
    unknown: tuple[str, ...] = field(default=())

    @property
    def is_empty(self) -> bool:
        """Whether the cluster is as the catalogue says; unknown topics do not count."""
        return not self.missing and not self.drifted


def plan(
    wanted: Mapping[str, TopicSpec],
    present: Mapping[str, TopicState],
    *,
    brokers: int | None = None,
    environment: str | None = None,
) -> Plan:
    """
    Compare a catalogue with a cluster.

    Args:
        wanted: Specs by full topic name, as `Catalogue.topics` returns them.
        present: Topics of the cluster; names that begin with `__` belong to Kafka and are left out.
        brokers: Brokers of the cluster. In dev and test, replication is capped to it, with a note.
        environment: Where the cluster is; anything but dev and test is never capped.
    """
    cap = brokers if environment in RELAXED_ENVIRONMENTS else None
    setups = {topic: topic_setup(topic, spec, brokers=cap) for topic, spec in wanted.items()}
    return Plan(
        missing=tuple(setup for topic, setup in sorted(setups.items()) if topic not in present),
        drifted=tuple(
            difference
            for topic, setup in sorted(setups.items())
            if topic in present
            for difference in _differences(setup, present[topic])
        ),
        unknown=tuple(
            sorted(name for name in present if name not in wanted and not name.startswith("__"))
        ),
    )


def topic_setup(topic: str, spec: TopicSpec, *, brokers: int | None = None) -> TopicSetup:
    """
    Return how to make a topic.

    Args:
        topic: Full name.
        spec: What the catalogue says.
        brokers: Largest replication; None leaves it as the catalogue says.
    """
    replication, in_sync = spec.replication, spec.min_insync_replicas
    notes: tuple[str, ...] = ()
    if brokers is not None and replication > brokers:
        replication = brokers
        in_sync = min(in_sync, replication)
        notes = (f"replication {replication} instead of {spec.replication}: brokers are few",)
    config = {
        "cleanup.policy": spec.cleanup,
        "max.message.bytes": str(spec.max_message_bytes),
        "min.insync.replicas": str(in_sync),
    }
    if "delete" in spec.cleanup:
        config["retention.ms"] = str(spec.retention // timedelta(milliseconds=1))
    return TopicSetup(
        topic=topic,
        partitions=spec.partitions,
        replication=replication,
        config=config,
        notes=notes,
    )


def _differences(setup: TopicSetup, state: TopicState) -> Iterator[Difference]:
    if state.partitions != setup.partitions:
        yield Difference(
            topic=setup.topic,
            setting="partitions",
            wanted=str(setup.partitions),
            present=str(state.partitions),
            action="grow" if setup.partitions > state.partitions else "never",
        )
    if state.replication != setup.replication:
        yield Difference(
            topic=setup.topic,
            setting="replication",
            wanted=str(setup.replication),
            present=str(state.replication),
            action="never",
        )
    for name, value in sorted(setup.config.items()):
        if state.config.get(name) != value:
            yield Difference(
                topic=setup.topic,
                setting=name,
                wanted=value,
                present=state.config.get(name),
                action="set",
            )
