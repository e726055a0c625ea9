"""Metrics of the audit."""

from __future__ import annotations

from collections import Counter as Tally

from prometheus_client import Gauge

from spile.services.auditing._values import AuditReport

DIFFERENCE = Gauge(
    "spile_audit_difference",
    "Events that a tier lacked in the last audit, beyond the grace",
    ["tier", "topic"],
)
LAST_RUN = Gauge("spile_audit_last_run_seconds", "Unix time of the last audit that came to its end")

_COMPARED = ("bus", "store", "dlq", "archive")


def show(report: AuditReport) -> None:
    """Set the gauges to what an audit found; a topic and tier without a difference is 0."""
    sums: Tally[tuple[str, str]] = Tally()
    for found in report.missing:
        sums[found.tier, found.topic] += found.missing
    DIFFERENCE.clear()
    for topic in report.topics:
        for tier in _COMPARED:
            DIFFERENCE.labels(tier, topic).set(sums[tier, topic])
    LAST_RUN.set(report.window.now.timestamp())
