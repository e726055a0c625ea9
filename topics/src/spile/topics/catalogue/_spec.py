"""What the catalogue says about one topic, and about those beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from types import MappingProxyType
from typing import Final, Literal

from pydantic import BaseModel

from spile.spi import ConfigurationError, InvalidTopicError
from spile.topics._limits import MAX_DLQ_MESSAGE_BYTES, MAX_MESSAGE_BYTES
from spile.topics.catalogue._groups import ConsumerGroup
from spile.topics.catalogue._names import TopicName, kebab
from spile.topics.payloads._contract import EventContract

TEMPLATE: Final = "{service}."
"""What the name of a topic begins with whose service is still open."""

_MIN_FAILED_RETENTION: Final = timedelta(days=30)
"""What failed waits for people, at least so long."""

_MAX_LOGICAL: Final = 180


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicSpec:
    """
    What the catalogue says about one topic.

    Attributes:
        name: Logical name, `shop.orders.order-placed.v1`, or a template that begins with
            `{service}.`, which the catalogue's services fill in.
        owner: Who answers for it.
        models: Payload model of each event type on it: a pydantic model, an `EventContract`, or
            None for any JSON object.
        key: Payload fields that key the records, separated by commas; the first that is set is
            taken. Empty: the correlation id. An `EventContract` with a key of its own keeps that.
        schema_version: Version of the models' schemas, for those that are given as plain models.
        partitions: Number of partitions; growing it re-keys.
        replication: Copies of each partition.
        retention: How long records are kept at least, 30 days at least for dead letters and
            retries; ignored when only compacted.
        cleanup: `delete` by age, `compact` by key, or both.
        max_message_bytes: Largest record batch that the broker takes.
        min_insync_replicas: Copies that must have a record before it counts as acknowledged.
        services: Services that fill in this template; those of the catalogue by default.
        groups: Consumer groups that have retry topics here, beside those of the whole catalogue.
        contracts: Made from `models`: the contract of each event type.

    Raises:
        InvalidTopicError: The name breaks the rules, has an environment, a suffix or a minor
            version, or leaves no room for suffixes (180 characters at most).
        InvalidEventError: An event type is not UPPER_SNAKE_CASE.
        ConfigurationError: A number is out of range, or a contract is for another event type.
    """

    name: str
    owner: str
    models: Mapping[str, type[BaseModel] | EventContract | None] = field(
        default_factory=dict[str, "type[BaseModel] | EventContract | None"]
    )
    key: str = ""
    schema_version: str = "1.0.0"
    partitions: int = 6
    replication: int = 3
    retention: timedelta = timedelta(days=7)
    cleanup: Literal["delete", "compact", "compact,delete"] = "delete"
    max_message_bytes: int = MAX_MESSAGE_BYTES
    min_insync_replicas: int = 2
    services: tuple[str, ...] = ()
    groups: tuple[ConsumerGroup, ...] = ()
    contracts: Mapping[str, EventContract] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self._check_name()
        self._check_numbers()
        key = tuple(part.strip() for part in self.key.split(",") if part.strip())
        contracts = {
            event_type: model.keyed(key)
            if isinstance(model, EventContract)
            else EventContract(event_type, model, schema_version=self.schema_version, key=key)
            for event_type, model in self.models.items()
        }
        for event_type, contract in contracts.items():
            if contract.event_type != event_type:
                raise ConfigurationError(
                    f"topic {self.name}: the contract of {event_type} is for {contract.event_type}"
                )
        object.__setattr__(self, "models", MappingProxyType(dict(self.models)))
        object.__setattr__(self, "contracts", MappingProxyType(contracts))

    def _check_name(self) -> None:
        name = TopicName.parse(self.name.replace(TEMPLATE, "x.", 1))
        if name.environment or name.isolation:
            raise InvalidTopicError(
                f"the catalogue holds logical names, not {self.name!r}", topic=self.name
            )
        if name.address != str(name):
            raise InvalidTopicError(
                f"topic {self.name!r} has a minor version: it lives in {name.address!r}",
                topic=self.name,
            )
        if len(self.name) > _MAX_LOGICAL and name.kind == "topic":
            raise InvalidTopicError(
                f"topic {self.name[:80]!r}... has {len(self.name)} characters, at most "
                f"{_MAX_LOGICAL} leave room for environment and suffixes",
                topic=self.name,
            )

    def _check_numbers(self) -> None:
        if self.partitions < 1 or self.replication < 1 or self.retention <= timedelta(0):
            raise ConfigurationError(
                f"topic {self.name}: partitions, replication and retention must be positive"
            )
        if self.services and not self.is_template:
            raise ConfigurationError(f"topic {self.name}: services fill in templates only")
        if not 1 <= self.min_insync_replicas <= self.replication:
            raise ConfigurationError(
                f"topic {self.name}: min_insync_replicas is {self.min_insync_replicas}, expected "
                f"1 to {self.replication} (replication)"
            )

    @property
    def is_template(self) -> bool:
        """Whether the service is still open."""
        return self.name.startswith(TEMPLATE)

    def instantiate(self, service: str) -> TopicSpec:
        """Return the topic of one service; a topic without template is returned as it is."""
        if not self.is_template:
            return self
        name = f"{kebab(service)}.{self.name[len(TEMPLATE) :]}"
        return replace(self, name=name, models=self.contracts, services=())

    @property
    def dlq(self) -> TopicSpec:
        """The topic of its dead letters: same partitions, room for the added headers."""
        return self._beside("dlq")

    @property
    def dlq_done(self) -> TopicSpec:
        """
        The compacted topic that marks which dead letters are settled: one partition.

        A mark is kept for twice as long as a letter, so it outlives the letter that it settles.
        """
        letters = self._beside("dlq.done")
        retention = 2 * letters.retention
        return replace(letters, partitions=1, cleanup="compact,delete", retention=retention)

    def retry(self, group: ConsumerGroup, tier: int) -> TopicSpec:
        """
        Return a topic where failed events of a group wait.

        Args:
            group: Whose.
            tier: Number of the retry, from 0.
        """
        beside = self._beside(f"{group.name}.retry.{tier}")
        return replace(beside, partitions=group.partitions or self.partitions)

    def _beside(self, suffix: str) -> TopicSpec:
        return replace(
            self,
            name=f"{self.name}.{suffix}",
            models={},
            cleanup="delete",
            retention=max(self.retention, _MIN_FAILED_RETENTION),
            max_message_bytes=MAX_DLQ_MESSAGE_BYTES,
            groups=(),
        )
