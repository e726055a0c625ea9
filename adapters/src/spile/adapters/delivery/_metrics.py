"""Prometheus metrics of the engine, one object each; `service` tells who they belong to."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

PUBLISHED = Counter(
    "spile_events_published", "Events acknowledged by all in-sync replicas", ["service", "topic"]
)
PUBLISH_FAILED = Counter(
    "spile_events_publish_failed",
    "Events not confirmed, by reason: rejected (refused by the broker) or indefinite",
    ["service", "topic", "reason"],
)
PUBLISH_REFUSED = Counter(
    "spile_events_refused", "Events refused before sending, by error", ["service", "error"]
)
PUBLISH_RETRIES = Counter(
    "spile_publish_retries", "Records that were tried again by the publisher", ["service"]
)
DEAD_LETTERED = Counter(
    "spile_dead_letters", "Records written to a dead letter queue", ["service", "topic"]
)
PUBLISH_SECONDS = Histogram(
    "spile_publish_seconds",
    "Time from publish to acknowledgement, one observation per call",
    ["service"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
BREAKER_STATE = Gauge(
    "spile_breaker_state", "Circuit breaker: 0 closed, 1 half-open, 2 open", ["service"]
)
BREAKER_OPENS = Counter("spile_breaker_opens", "Times that the breaker opened", ["service"])
