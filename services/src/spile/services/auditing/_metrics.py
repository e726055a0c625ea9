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
UNKNOWN = Gauge(
    "spile_audit_unknown",
    "Events of the last audit of which nothing can tell any more whether a tier lost them",
    ["tier", "topic"],
)
LAST_RUN = Gauge("spile_audit_last_run_seconds", "Unix time of the last audit that came to its end")

_COMPARED = ("bus", "store", "dlq", "archive")


def show(report: AuditReport) -> None:
    """Set the gauges to what an audit found; a topic and tier without a difference is 0."""
    for gauge, differences in ((DIFFERENCE, report.missing), (UNKNOWN, report.unknown)):
        sums: Tally[tuple[str, str]] = Tally()
        for found in differences:
            sums[found.tier, found.topic] += found.missing
        gauge.clear()
        for topic in report.topics:
            for tier in _COMPARED:
                gauge.labels(tier, topic).set(sums[tier, topic])
    LAST_RUN.set(report.window.now.timestamp())
