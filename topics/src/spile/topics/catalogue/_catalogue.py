"""The catalogue: the only place that spells a topic."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from spile.spi import ConfigurationError, InvalidTopicError, UnknownTopicError
from spile.topics._event_names import upper_snake
from spile.topics.catalogue._groups import ConsumerGroup
from spile.topics.catalogue._names import ENVIRONMENTS, TopicName, kebab
from spile.topics.catalogue._spec import TEMPLATE, TopicSpec
from spile.topics.payloads._contract import EventContract

_CACHE_SIZE: Final = 10_000
_NAMED: Final = 8


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
        self._templates = {s.name[len(TEMPLATE) :]: s for s in self._specs if s.is_template}
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
        return self._topics[spec.name.replace(TEMPLATE, f"{segment}.", 1)]

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
    names = _listed([f"{name}.{spec.name[len(TEMPLATE) :]}" for name in own])
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
