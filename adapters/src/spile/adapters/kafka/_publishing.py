"""A publisher on Kafka, and a bus, in one call."""

from __future__ import annotations

import uuid
from collections.abc import Callable

from spile.adapters.dead_letters import DeadLetterQueue
from spile.adapters.kafka._bus import KafkaEventBus, KafkaEventBusAdapter
from spile.adapters.kafka._environment import load_settings
from spile.adapters.kafka._sender import KafkaSender
from spile.adapters.kafka._settings import RELAXED, KafkaSettings
from spile.adapters.publishing import (
    AuditSettings,
    BreakerState,
    CircuitBreaker,
    EventPublisher,
    PublishAudit,
    RedactionSettings,
)
from spile.adapters.registry import RegistrySettings
from spile.adapters.wire import wire_form
from spile.spi import ConfigurationError
from spile.topics import Catalogue, default_catalogue
from spile.topics.redaction import Redactor


def create_publisher(
    settings: KafkaSettings,
    catalogue: Catalogue,
    *,
    service: str,
    instance_id: str | None = None,
    breaker: CircuitBreaker | None = None,
    on_breaker: Callable[[BreakerState, BreakerState], None] | None = None,
    redactor: Redactor | bool | None = None,
) -> EventPublisher:
    """
    Return a publisher; it connects at the first event.

    Args:
        settings: How to connect; names the environment too.
        catalogue: Knows topics and contracts; the service's templates are added to it.
        service: Name of the publishing service.
        instance_id: Tells replicas apart in logs; made when not given.
        breaker: Its own by default: threshold 5, reset after 30 s.
        on_breaker: Called with the old and new state of the breaker.
        redactor: Takes secrets out of events; the one of SPILE_REDACTION and its kin when None,
            True is one with the built-in rules, False writes events as they are.

    Raises:
        ConfigurationError: The encoding needs a schema registry, and none is set or a setting of
            it, of redaction or of the audit is wrong.
    """
    if redactor is None:
        redactor = _redactor(settings.environment)
    instance_id = instance_id or uuid.uuid4().hex[:8]
    form = wire_form(settings.encoding, load_settings(RegistrySettings).open)
    sender = KafkaSender(settings)
    publisher = EventPublisher(
        sender,
        catalogue.with_services(service),
        environment=settings.environment,
        service=service,
        instance_id=instance_id,
        breaker=breaker,
        refused=DeadLetterQueue(sender, group=f"publisher.{service}", scrub=_scrub(redactor)),
        on_breaker=on_breaker,
        form=form,
        redactor=redactor,
        audit=_audit(service, instance_id),
    )
    sender.on_retry = publisher.note_retry
    return publisher


def create_event_publisher(
    bootstrap_servers: str, service_name: str, instance_id: str | None = None
) -> EventPublisher:
    """
    Return a publisher on the default catalogue; other settings come from SPILE_*.

    Args:
        bootstrap_servers: `host:port`, separated by commas.
        service_name: Name of the publishing service.
        instance_id: Tells replicas apart in logs; made when not given.

    Raises:
        ConfigurationError: A setting is missing, unknown or contradictory.
    """
    return create_publisher(
        KafkaSettings.load(bootstrap_servers=bootstrap_servers),
        default_catalogue(services=(service_name,)),
        service=service_name,
        instance_id=instance_id,
    )


def open_bus(
    settings: KafkaSettings, catalogue: Catalogue, *, group: str = "default"
) -> KafkaEventBus:
    """
    Return a bus to subscribe on; it connects at the first use, and `async with` closes it.

    Errors in dead letters are redacted as SPILE_REDACTION and its kin say.

    Args:
        settings: How to connect; names the environment too.
        catalogue: Knows the topics.
        group: Node group of this bus; named as the source of what it publishes.

    Raises:
        ConfigurationError: A setting of redaction is wrong.
    """
    scrub = _scrub(_redactor(settings.environment))
    return KafkaEventBus(KafkaEventBusAdapter(settings, catalogue, group=group, scrub=scrub))


def _redactor(environment: str) -> Redactor | bool:
    """
    Return the redactor of the settings.

    Raises:
        ConfigurationError: It is off in an environment that is neither dev nor test.
    """
    redactor = load_settings(RedactionSettings).redactor()
    if redactor is None and environment not in RELAXED:
        raise ConfigurationError(
            f"SPILE_REDACTION: off is for dev and test, not for {environment}",
            setting="SPILE_REDACTION",
        )
    return redactor or False


def _audit(service: str, instance_id: str) -> PublishAudit | None:
    settings = load_settings(AuditSettings)
    if settings.audit == "off":
        return None
    return PublishAudit(service=service, instance_id=instance_id, every_s=settings.audit_every_s)


def _scrub(redactor: Redactor | bool) -> Callable[[str], str] | None:
    return redactor.scrub if isinstance(redactor, Redactor) else None
