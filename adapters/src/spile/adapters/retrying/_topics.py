"""The retry topics of one group."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from spile.spi import ConfigurationError, InvalidTopicError
from spile.topics import TopicName


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryTopic:
    """A retry topic: the topic that it belongs to, and its number from 0."""

    origin: str
    tier: int


class RetryTopics:
    """
    The topics that a group reads and the retry topics beside each.

    Args:
        topics: Full names.
        group_id: The consumer group.
        tiers: Retry topics per topic, at least 1.
        parse: Reads a full name; `TopicName.parse` by default.

    Raises:
        ConfigurationError: A pattern, or a group whose id is no segment of a topic name.
    """

    def __init__(
        self,
        topics: Sequence[str],
        group_id: str,
        tiers: int,
        *,
        parse: Callable[[str], TopicName] = TopicName.parse,
    ) -> None:
        self.group_id = group_id
        self.tiers = tiers
        self._retries: dict[str, tuple[str, ...]] = {}
        self._places: dict[str, RetryTopic] = {}
        for topic in topics:
            if topic.startswith("^"):
                raise ConfigurationError(
                    f"retry tiers need topics by name, not the pattern {topic!r}"
                )
            try:
                name = parse(topic)
                beside = tuple(str(name.retry(group_id, tier)) for tier in range(tiers))
            except InvalidTopicError as exc:
                raise ConfigurationError(
                    f"group {group_id!r} has no retry topics beside {topic!r}: {exc}"
                ) from exc
            self._retries[topic] = beside
            self._places |= {
                retry: RetryTopic(origin=topic, tier=tier) for tier, retry in enumerate(beside)
            }

    @property
    def names(self) -> Sequence[str]:
        """All names, each topic before its retry topics."""
        return [name for topic, beside in self._retries.items() for name in (topic, *beside)]

    @property
    def together(self) -> Collection[Sequence[str]]:
        """Topics whose partitions of one number must have one owner."""
        return [(topic, *beside) for topic, beside in self._retries.items()]

    def of(self, topic: str) -> Sequence[str]:
        """Return the retry topics beside a topic."""
        return self._retries[topic]

    def place(self, topic: str) -> RetryTopic | None:
        """Say which retry topic a name is; None for a topic of origin."""
        return self._places.get(topic)

    def lack_of(self, topic: str) -> str | None:
        """Say what to do where a retry topic is the first that does not exist; None for others."""
        place = self._places.get(topic)
        if place is None:
            return None
        group, count = self.group_id, place.tier
        if not count:
            return (
                f"there is no retry topic {topic}: name the group {group!r} in the `groups` of its "
                "topic in the catalogue, and run `spile topics apply`"
            )
        return (
            f"there is no retry topic {topic}: the group {group!r} has {count} beside "
            f"{place.origin}, and {self.tiers} were asked for; give `Retries` as many `tiers` as "
            f"it has, or the group tiers={self.tiers} in the `groups` of its topic in the "
            "catalogue, and run `spile topics apply`"
        )
