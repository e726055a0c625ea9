"""Records that come back: dead letters that somebody sent to this group again."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from spile.adapters.dead_letters import (
    MAX_REPLAYS,
    ReplaysSpentError,
    original_record,
    read_retry,
    replay_count,
)
from spile.adapters.delivery import Record
from spile.spi import InvalidTopicError, ProtocolRecord, UndecodableError
from spile.topics import TopicName


class Arrival(NamedTuple):
    """
    A record as it stood in its own topic.

    Attributes:
        record: With the topic, partition, offset and time that it had there.
        replays: How often it was reprocessed.
        first_failure: When it failed first; None for one that is here for the first time.
        problem: Why it cannot be taken, although it came back.
    """

    record: ProtocolRecord
    replays: int = 0
    first_failure: datetime | None = None
    problem: UndecodableError | ReplaysSpentError | None = None


class Arrivals:
    """
    Tells records that come back from those that are here for the first time.

    Args:
        environment: Environment of the topics.
    """

    def __init__(self, environment: str) -> None:
        self._environments = (environment,)
        self._topics: dict[str, str | None] = {}

    def returned_to(self, topic: str) -> str | None:
        """Return the topic that a retry topic belongs to, by its name; None for another topic."""
        try:
            return self._topics[topic]
        except KeyError:
            found = self._topics[topic] = self._origin(topic)
            return found

    def of(self, record: ProtocolRecord) -> Arrival:
        """Return a record as it stood in its own topic; never raises."""
        topic = self.returned_to(record.topic)
        if topic is None:
            return Arrival(record)
        replays = replay_count(record)
        try:
            facts = read_retry(record)
        except UndecodableError as exc:
            # Where it stood is not known; its key, value and headers are what can be kept.
            lost = Record(
                topic, -1, -1, record.timestamp, record.key, record.value, tuple(record.headers)
            )
            return Arrival(lost, replays, None, exc)
        problem = None
        if replays > MAX_REPLAYS:
            problem = ReplaysSpentError(
                f"reprocessed {replays} times, at most {MAX_REPLAYS}; it was not tried again"
            )
        original = original_record(record, facts, topic)
        return Arrival(original, replays, facts.first_failure, problem)

    def _origin(self, topic: str) -> str | None:
        if ".retry." not in topic:
            return None
        try:
            name = TopicName.parse(topic, environments=self._environments)
        except InvalidTopicError:
            return None
        return str(name.topic) if name.kind == "retry" else None
