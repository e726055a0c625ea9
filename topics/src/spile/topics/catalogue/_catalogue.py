"""The catalogue: the only place that spells a topic."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from types import MappingProxyType
from typing import Final, Literal

from pydantic import BaseModel

from spile.spi import ConfigurationError, InvalidTopicError, UnknownTopicError
from spile.topics._event_names import upper_snake
from spile.topics._limits import MAX_DLQ_MESSAGE_BYTES, MAX_MESSAGE_BYTES
from spile.topics.catalogue._groups import ConsumerGroup
from spile.topics.catalogue._names import ENVIRONMENTS, TopicName, kebab
from spile.topics.payloads._contract import EventContract

_TEMPLATE: Final = "{service}."
_MIN_FAILED_RETENTION: Final = timedelta(days=30)
"""What failed waits for people, at least so long."""

_MAX_LOGICAL: Final = 180
_CACHE_SIZE: Final = 10_000
_NAMED: Final = 8


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
        name = TopicName.parse(self.name.replace(_TEMPLATE, "x.", 1))
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
        return self.name.startswith(_TEMPLATE)

    def instantiate(self, service: str) -> TopicSpec:
        """Return the topic of one service; a topic without template is returned as it is."""
        if not self.is_template:
            return self
        name = f"{kebab(service)}.{self.name[len(_TEMPLATE) :]}"
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """
    Where an event goes.

    Attributes:
        topic: Full name of the topic.
        dlq_topic: Full name of its DLQ.
        event_type: UPPER_SNAKE_CASE.
        version: Version of the topic, such as `v1`.
        contract: What the payload must be.
        spec: What the catalogue says about the topic.
    """

    topic: str
    dlq_topic: str
    event_type: str
    version: str
    contract: EventContract
    spec: TopicSpec


class Catalogue:
    """
    All topics, immutable.

    Args:
        specs: The topics and templates.
        services: Services that fill in the templates; lower-cased, `_` becomes `-`.
        groups: Consumer groups that have retry topics beside every topic.

    Raises:
        ConfigurationError: Two topics or two services collide.
        InvalidTopicError: A service is no segment of a topic name.
    """

    def __init__(
        self,
        specs: Sequence[TopicSpec],
        *,
        services: Sequence[str] = ("agent",),
        groups: Sequence[ConsumerGroup] = (),
    ) -> None:
        self._specs = tuple(specs)
        self._groups = tuple(groups)
        self._services = _services(services)
        self._topics = _instantiate(self._specs, self._services)
        self._templates = {s.name[len(_TEMPLATE) :]: s for s in self._specs if s.is_template}
        self._by_type: dict[str, list[TopicSpec]] = {}
        for spec in self._specs:
            for event_type in spec.contracts:
                self._by_type.setdefault(event_type, []).append(spec)
        self._routes: dict[tuple[str, str, str, str | None, str | None], Route] = {}

    @property
    def specs(self) -> tuple[TopicSpec, ...]:
        """The topics and templates, in the order given."""
        return self._specs

    @property
    def services(self) -> tuple[str, ...]:
        """The services as given."""
        return tuple(self._services.values())

    def with_topics(self, *specs: TopicSpec) -> Catalogue:
        """
        Return a catalogue with more topics.

        Raises:
            ConfigurationError: A topic is there already.
        """
        return Catalogue((*self._specs, *specs), services=self.services, groups=self._groups)

    def with_services(self, *names: str) -> Catalogue:
        """
        Return a catalogue with more services; one that is there already stays.

        Raises:
            ConfigurationError: Two names become the same segment.
            InvalidTopicError: A name is no segment of a topic name.
        """
        services = (*self.services, *names)
        return Catalogue(self._specs, services=services, groups=self._groups)

    def topics(self, environment: str) -> Mapping[str, TopicSpec]:
        """
        Return every topic of an environment by its full name.

        Beside each stand its DLQ, the marks of settled dead letters, and the retries of its groups.

        Raises:
            InvalidTopicError: The environment is no segment.
        """
        found: dict[str, TopicSpec] = {}
        for name, spec in self._topics.items():
            full = TopicName.parse(name).in_environment(environment)
            found[str(full)] = spec
            found[str(full.dlq)] = spec.dlq
            found[str(full.dlq_done)] = spec.dlq_done
            for group in self._groups_of(spec).values():
                for tier in range(group.tiers):
                    found[str(full.retry(group.name, tier))] = spec.retry(group, tier)
        return MappingProxyType(found)

    def retry_topic(
        self,
        topic: str,
        group: str,
        tier: int = 0,
        *,
        environments: Collection[str] = ENVIRONMENTS,
    ) -> str | None:
        """
        Return where failed events of a group wait; None when the catalogue has no such topic.

        Args:
            topic: Full or logical name; a minor version and suffixes do not matter.
            group: Id of the consumer group; any text.
            tier: Number of the retry, from 0.
            environments: The known environments.
        """
        try:
            name = TopicName.parse(topic, environments=environments)
        except InvalidTopicError:
            return None
        spec = self._spec_of_name(name)
        known = None if spec is None else self._groups_of(spec).get(group)
        if known is None or not 0 <= tier < known.tiers:
            return None
        return str(
            TopicName.parse(name.topic.address, environments=environments).retry(group, tier)
        )

    def _groups_of(self, spec: TopicSpec) -> dict[str, ConsumerGroup]:
        """Return the groups of a topic; one that the topic itself names goes before."""
        return {group.name: group for group in (*self._groups, *spec.groups)}

    def _spec_of_name(self, name: TopicName) -> TopicSpec | None:
        rest = f"{name.domain}.{name.action}.v{name.major}"
        return self._topics.get(f"{name.service}.{rest}") or self._templates.get(rest)

    def resolve(
        self,
        event_type: str,
        *,
        environment: str,
        service: str,
        topic: str | None = None,
        payload_type: str | None = None,
    ) -> Route:
        """
        Find where an event goes; remembered, so that a repeat costs a look-up.

        Args:
            event_type: UPPER_SNAKE_CASE, or a topic name with or without its environment.
            environment: Where the events of this process go.
            service: The publishing service.
            topic: The topic to use, where the caller says so.
            payload_type: The event type that the payload states (`stated_type`), which decides
                when the event type is a topic name that stands for several types.

        Raises:
            UnknownTopicError: No such topic or type; names what comes close.
            InvalidTopicError: A topic name breaks the naming rules.
        """
        cache_key = (event_type, environment, service, topic, payload_type)
        route = self._routes.get(cache_key)
        if route is None:
            route = self._find(*cache_key)
            if len(self._routes) >= _CACHE_SIZE:
                self._routes.clear()
            self._routes[cache_key] = route
        return route

    def contracts(
        self, topic: str, environments: Collection[str] = ENVIRONMENTS
    ) -> Mapping[str, EventContract] | None:
        """
        Return what a topic holds by event type; None when the catalogue does not have it.

        A template holds for services too that are not in the catalogue: readers meet them.

        Args:
            topic: Full or logical name.
            environments: The known environments.
        """
        try:
            name = TopicName.parse(topic, environments=environments)
        except InvalidTopicError:
            return None
        if name.kind != "topic":
            return None
        spec = self._spec_of_name(name)
        return None if spec is None else spec.contracts

    def _find(
        self,
        event_type: str,
        environment: str,
        service: str,
        topic: str | None,
        payload_type: str | None,
    ) -> Route:
        if "." in event_type and upper_snake(event_type) not in self._by_type:
            spec = self._spec_of(event_type, environment)
            if topic is not None and self._spec_of(topic, environment) is not spec:
                raise UnknownTopicError(
                    f"event type {event_type!r} and topic {topic!r} name two topics", topic=topic
                )
            kind = _only_type(spec, payload_type)
        else:
            kind = event_type
            spec = (
                self._spec_of_type(event_type, service)
                if topic is None
                else self._spec_of(topic, environment)
            )
        contract = spec.contracts.get(kind)
        if contract is None:
            raise UnknownTopicError(
                f"topic {spec.name!r} holds {_listed(spec.contracts)}, not {kind[:80]!r}",
                topic=spec.name,
            )
        name = TopicName.parse(spec.name).in_environment(environment)
        return Route(
            topic=str(name),
            dlq_topic=str(name.dlq),
            event_type=kind,
            version=name.version,
            contract=contract,
            spec=spec,
        )

    def _spec_of(self, text: str, environment: str) -> TopicSpec:
        name = TopicName.parse(text, environments={*ENVIRONMENTS, environment})
        if name.environment not in {None, environment}:
            raise UnknownTopicError(
                f"topic {text!r} is in {name.environment!r}, this process is in {environment!r}",
                topic=text,
            )
        spec = self._topics.get(f"{name.service}.{name.domain}.{name.action}.v{name.major}")
        if spec is None or name.kind != "topic":
            close = _close(name.logical, self._topics)
            raise UnknownTopicError(f"topic {text!r} is not in the catalogue{close}", topic=text)
        return spec

    def _spec_of_type(self, event_type: str, service: str) -> TopicSpec:
        specs = self._by_type.get(event_type)
        if not specs:
            # Families spell their events in other ways: PreToolUse, plan.step_started.
            close = _close(upper_snake(event_type[:80]), self._by_type)
            raise UnknownTopicError(
                f"no topic holds the event type {event_type[:80]!r}{close}", topic=event_type
            )
        spec = _newest(specs, event_type)
        if not spec.is_template:
            return spec
        segment = kebab(service)
        # A template may be there several times, each for services of its own.
        twins = [twin for twin in specs if twin.name == spec.name]
        own = _services([name for twin in twins for name in twin.services])
        if all(twin.services for twin in twins):
            segment = _own_segment(spec, own, segment)
        elif segment not in own and segment not in self._services:
            raise UnknownTopicError(
                f"service {service[:80]!r} is not in the catalogue, which has "
                f"{_listed(self.services)}: add it by with_services({service[:80]!r})",
                topic=event_type,
            )
        return self._topics[spec.name.replace(_TEMPLATE, f"{segment}.", 1)]

    def __iter__(self) -> Iterator[TopicSpec]:
        return iter(self._topics.values())


def _services(names: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name in names:
        segment = kebab(name)
        other = found.setdefault(segment, name)
        if other != name:
            raise ConfigurationError(
                f"services {other!r} and {name!r} both become the topic segment {segment!r}"
            )
    return found


def _instantiate(specs: Sequence[TopicSpec], services: Mapping[str, str]) -> dict[str, TopicSpec]:
    topics: dict[str, TopicSpec] = {}
    for spec in specs:
        names = _services(spec.services) if spec.services else services
        made = [spec.instantiate(name) for name in names] if spec.is_template else [spec]
        for one in made:
            if one.name in topics:
                raise ConfigurationError(f"topic {one.name!r} is in the catalogue twice")
            topics[one.name] = one
    return topics


def _own_segment(spec: TopicSpec, own: Mapping[str, str], segment: str) -> str:
    """Return who of a template's own services an event belongs to."""
    if segment in own:
        return segment
    if len(own) == 1:
        return next(iter(own))
    names = _listed([f"{name}.{spec.name[len(_TEMPLATE) :]}" for name in own])
    raise UnknownTopicError(
        f"service {segment[:80]!r} has no topic of {spec.name!r}, say which: {names}",
        topic=spec.name,
    )


def _newest(specs: Sequence[TopicSpec], event_type: str) -> TopicSpec:
    lines = {spec.name.rpartition(".")[0] for spec in specs}
    if len(lines) > 1:
        names = _listed([spec.name for spec in specs])
        raise UnknownTopicError(
            f"event type {event_type!r} is on several topics, say which: {names}", topic=event_type
        )
    return max(specs, key=lambda spec: int(spec.name.rpartition(".v")[2]))


def _only_type(spec: TopicSpec, payload_type: str | None) -> str:
    if payload_type is not None and payload_type in spec.contracts:
        return payload_type
    if len(spec.contracts) == 1:
        return next(iter(spec.contracts))
    raise UnknownTopicError(
        f"topic {spec.name!r} holds {_listed(spec.contracts)}: say which as event type, or in the "
        f"payload's event_type",
        topic=spec.name,
    )


def _listed(names: Sequence[str] | Mapping[str, object]) -> str:
    listed = list(names)
    more = f" and {len(listed) - _NAMED} more" if len(listed) > _NAMED else ""
    return (", ".join(listed[:_NAMED]) + more) or "no event types"


def _close(name: str, known: Mapping[str, object]) -> str:
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
    return f": did you mean {' or '.join(near)}?" if near else f": it has {_listed(known)}"
