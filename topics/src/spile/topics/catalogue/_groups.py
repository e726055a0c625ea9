"""Consumer groups that have retry topics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from spile.spi import ConfigurationError
from spile.topics.catalogue._names import TopicName

_DEFAULT_TIERS: Final = 3
_MAX_TIERS: Final = 9


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumerGroup:
    """
    A consumer group whose failed events wait in retry topics, `<topic>.<group>.retry.<n>`.

    Reprocessing a dead letter goes through the first of them, so that only the group that failed
    sees the event again.

    Attributes:
        name: Id of the group; one segment of a topic name.
        tiers: Number of retry topics, 1 to 9; 3 by default.
        partitions: Partitions of each; those of the topic by default, which the ordered retries of
            a subscription need.

    Raises:
        InvalidTopicError: The name is no segment of a topic name.
        ConfigurationError: A number is out of range.
    """

    name: str
    tiers: int = _DEFAULT_TIERS
    partitions: int | None = None

    def __post_init__(self) -> None:
        TopicName.parse("x.x.x.v1").retry(self.name, 0)
        if not 1 <= self.tiers <= _MAX_TIERS:
            raise ConfigurationError(
                f"group {self.name}: {self.tiers} tiers, expected 1 to {_MAX_TIERS}"
            )
        if self.partitions is not None and self.partitions < 1:
            raise ConfigurationError(
                f"group {self.name}: {self.partitions} partitions, expected at least 1"
            )
