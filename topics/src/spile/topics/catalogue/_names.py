"""Topic names: one value class that parses, builds and refuses them."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal, TypeAlias

from spile.spi import InvalidTopicError
from spile.topics._limits import MAX_TOPIC_LENGTH

ENVIRONMENTS: Final = ("dev", "test", "staging", "prod")
"""The environments that are known unless a caller names others."""

TopicKind: TypeAlias = Literal["topic", "dlq", "dlq.done", "retry"]
"""What a topic is for: events, dead letters, marks of settled dead letters, a group's retries."""

_SEGMENT: Final = re.compile(r"[a-z0-9][a-z0-9-]*")
_VERSION: Final = re.compile(r"v(0|[1-9][0-9]*)(?:\.(0|[1-9][0-9]*))?")
_ALLOWED: Final = re.compile(r"[a-z0-9.-]*")
_NUMBER: Final = re.compile(r"0|[1-9][0-9]*")
_FORM: Final = "[<env>.]<service>.<domain>.<action>.v<major>"
_LOGICAL_PARTS: Final = 4
_SHORT: Final = 80


def kebab(text: str) -> str:
    """Return the segment that a service or component name becomes: lower case, `_` as `-`."""
    return text.lower().replace("_", "-")


def _refuse(text: str, why: str) -> InvalidTopicError:
    shown = repr(text if len(text) <= _SHORT else text[:_SHORT] + "...")
    return InvalidTopicError(f"topic {shown} {why}", topic=text)


def _check_segment(label: str, segment: str, text: str) -> None:
    if _SEGMENT.fullmatch(segment):
        return
    if not segment:
        raise _refuse(text, f"has an empty {label}: the form is {_FORM}")
    why = f"has the {label} {segment[:_SHORT]!r}: a segment matches [a-z0-9][a-z0-9-]*"
    if _SEGMENT.fullmatch(kebab(segment)):
        why += f", write {kebab(segment)!r}"
    raise _refuse(text, why)


def _check_characters(text: str) -> None:
    if not text:
        raise _refuse(text, f"is empty: the form is {_FORM}")
    if len(text) > MAX_TOPIC_LENGTH:
        raise _refuse(text, f"has {len(text)} characters, at most {MAX_TOPIC_LENGTH} are allowed")
    if _ALLOWED.fullmatch(text):
        return
    wrong = next(character for character in text if not _ALLOWED.fullmatch(character))
    if wrong == "_" or wrong.isupper():
        raise _refuse(text, f"holds {wrong!r}: names are lower-case kebab, write {kebab(text)!r}")
    raise _refuse(text, f"holds {wrong!r}: only a-z, 0-9, '-' and '.' are allowed")


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicName:
    """
    The name of a topic, taken apart; `str()` puts it together again.

    Attributes:
        service: Who owns the topic.
        domain: What it is about.
        action: What happened.
        version: `v1`, or `v1.2`, which addresses the `v1` topic.
        environment: Where it lives; None for a logical name.
        group: Node group of an isolation form.
        kind: What the topic is for.
        isolation: Whether environment and group are joined by `-` instead of `.`.
        retry_group: Consumer group of a retry topic.
        retry_tier: Number of a retry topic, from 0.

    Raises:
        InvalidTopicError: A part or the whole breaks the naming rules.
    """

    service: str
    domain: str
    action: str
    version: str
    environment: str | None = None
    group: str | None = None
    kind: TopicKind = "topic"
    isolation: bool = False
    retry_group: str | None = None
    retry_tier: int | None = None

    def __post_init__(self) -> None:
        text = str(self)
        for label in ("service", "domain", "action"):
            _check_segment(label, getattr(self, label), text)
        for label in ("environment", "group", "retry_group"):
            value: str | None = getattr(self, label)
            if value is not None:
                _check_segment(label, value, text)
        if not _VERSION.fullmatch(self.version):
            raise _refuse(text, f"has the version {self.version[:_SHORT]!r}, expected v<major>")
        _check_service(self.service, ENVIRONMENTS, text)
        self._check_form(text)
        _check_characters(text)

    def _check_form(self, text: str) -> None:
        if self.isolation and self.environment is None and self.group is None:
            raise _refuse(text, "is an isolation form without environment and group")
        if self.group is not None and not self.isolation:
            raise _refuse(text, "has a group, which only isolation forms have: use .isolated()")
        wanted = self.kind == "retry"
        given = (self.retry_group is not None, self.retry_tier is not None)
        if given != (wanted, wanted) or (self.retry_tier or 0) < 0:
            raise _refuse(text, "needs retry_group and retry_tier >= 0 for a retry, and only then")

    def __str__(self) -> str:
        base = f"{self.service}.{self.domain}.{self.action}.{self.version}"
        if self.isolation:
            base = "-".join(part for part in (self.environment, self.group, base) if part)
        elif self.environment is not None:
            base = f"{self.environment}.{base}"
        if self.kind == "topic":
            return base
        if self.kind == "retry":
            return f"{base}.{self.retry_group}.retry.{self.retry_tier}"
        return f"{base}.{self.kind}"

    @classmethod
    def parse(
        cls,
        text: str,
        *,
        environments: Collection[str] = ENVIRONMENTS,
        groups: Collection[str] = (),
    ) -> TopicName:
        """
        Take a topic name apart.

        The first segment is an environment only if it is a known one. A first segment that begins
        with a known environment or group and `-` is an isolation form.

        Args:
            text: The name, in any of its forms.
            environments: The known environments.
            groups: The known node groups.

        Raises:
            InvalidTopicError: The name breaks the rules, or can be read in more than one way.
        """
        _check_characters(text)
        parts = text.split(".")
        environment = parts.pop(0) if parts[0] in environments else None
        head, tail = parts[: _LOGICAL_PARTS - 1], parts[_LOGICAL_PARTS - 1 :]
        if len(head) < _LOGICAL_PARTS - 1 or not tail:
            raise _refuse(text, f"has too few segments: the form is {_FORM}")
        service, group, isolation = head[0], None, False
        if environment is None:
            environment, group, service = _split_isolation(service, environments, groups, text)
            isolation = environment is not None or group is not None
        _check_service(service, environments, text)
        version, kind, retry_group, retry_tier = _parse_tail(tail, environments, text)
        return cls(
            service=service,
            domain=head[1],
            action=head[2],
            version=version,
            environment=environment,
            group=group,
            kind=kind,
            isolation=isolation,
            retry_group=retry_group,
            retry_tier=retry_tier,
        )

    @property
    def logical(self) -> str:
        """The four parts, without environment, group and suffix."""
        return f"{self.service}.{self.domain}.{self.action}.{self.version}"

    @property
    def major(self) -> int:
        """Number of the major version."""
        return int(self.version[1:].partition(".")[0])

    @property
    def address(self) -> str:
        """Name of the topic on the cluster: a minor version lives in the topic of its major."""
        return str(replace(self, version=f"v{self.major}"))

    @property
    def topic(self) -> TopicName:
        """The topic that a DLQ or retry topic belongs to."""
        return replace(self, kind="topic", retry_group=None, retry_tier=None)

    @property
    def dlq(self) -> TopicName:
        """
        The topic for dead letters.

        Raises:
            InvalidTopicError: The name becomes too long.
        """
        return replace(self.topic, kind="dlq")

    @property
    def dlq_done(self) -> TopicName:
        """
        The compacted topic that marks settled dead letters.

        Raises:
            InvalidTopicError: The name becomes too long.
        """
        return replace(self.topic, kind="dlq.done")

    def retry(self, group: str, tier: int) -> TopicName:
        """
        Return the retry topic of a consumer group.

        Args:
            group: The consumer group that failed.
            tier: Number of the retry, from 0.

        Raises:
            InvalidTopicError: The group is no segment, or the name becomes too long.
        """
        return replace(self.topic, kind="retry", retry_group=group, retry_tier=tier)

    def in_environment(self, environment: str) -> TopicName:
        """
        Return the name in an environment.

        Raises:
            InvalidTopicError: The environment is no segment, or the name becomes too long.
        """
        return replace(self, environment=environment)

    def isolated(self, *, environment: str | None = None, group: str | None = None) -> TopicName:
        """
        Return the isolation form: `{env}-{topic}`, `{group}-{topic}` or `{env}-{group}-{topic}`.

        Raises:
            InvalidTopicError: Neither is given, one is no segment, or the name becomes too long.
        """
        return replace(self, environment=environment, group=group, isolation=True)


def _check_service(service: str, environments: Collection[str], text: str) -> None:
    for environment in environments:
        if service == environment or service.startswith(f"{environment}-"):
            raise _refuse(
                text,
                f"has the service {service[:_SHORT]!r}, which reads as environment "
                f"{environment!r}: give the service another name",
            )


def _prefix(text: str, known: Collection[str], label: str, whole: str) -> str | None:
    fits = sorted({name for name in known if text.startswith(f"{name}-")})
    if len(fits) > 1:
        raise _refuse(whole, f"is ambiguous: it begins with the {label}s {', '.join(fits)}")
    return fits[0] if fits else None


def _split_isolation(
    head: str, environments: Collection[str], groups: Collection[str], text: str
) -> tuple[str | None, str | None, str]:
    both = sorted(
        name
        for name in {*environments, *groups}
        if head.startswith(f"{name}-") and name in environments and name in groups
    )
    if both:
        raise _refuse(text, f"is ambiguous: {both[0]!r} is an environment and a group")
    environment = _prefix(head, environments, "environment", text)
    group = _prefix(head, groups, "group", text)
    if environment is not None and group is not None:
        raise _refuse(
            text, f"is ambiguous: it begins with environment {environment!r} and group {group!r}"
        )
    if environment is not None:
        head = head[len(environment) + 1 :]
        group = _prefix(head, groups, "group", text)
    if group is not None:
        head = head[len(group) + 1 :]
    if group is not None and (again := _prefix(head, groups, "group", text)) is not None:
        raise _refuse(text, f"is ambiguous: both {group!r} and {again!r} are groups")
    return environment, group, head


def _parse_tail(
    tail: Sequence[str], environments: Collection[str], text: str
) -> tuple[str, TopicKind, str | None, int | None]:
    version, rest = tail[0], list(tail[1:])
    # `v1.5.retry.0` is the retry topic of a group named 5, `v1.5.g.retry.0` has a minor version.
    is_retry = len(rest) == len(("group", "retry", "tier")) and rest[1] == "retry"
    if rest and _NUMBER.fullmatch(rest[0]) and not is_retry:
        version = f"{version}.{rest.pop(0)}"
    if not _VERSION.fullmatch(version):
        known = ", ".join(environments)
        raise _refuse(
            text,
            f"has {version[:_SHORT]!r} where the version stands: the form is {_FORM}, "
            f"known environments are {known}",
        )
    match rest:
        case []:
            return version, "topic", None, None
        case ["dlq"]:
            return version, "dlq", None, None
        case ["dlq", "done"]:
            return version, "dlq.done", None, None
        case [group, "retry", tier] if _NUMBER.fullmatch(tier):
            return version, "retry", group, int(tier)
        case _:
            raise _refuse(
                text,
                f"ends in {'.'.join(rest)[:_SHORT]!r}: only .dlq, .dlq.done and "
                f".<group>.retry.<n> may follow the version",
            )
