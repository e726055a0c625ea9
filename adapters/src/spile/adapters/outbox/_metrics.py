"""Prometheus metrics of relays."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

SENT = Counter("spile_outbox_sent", "Rows that the relay published", ["outbox"])
REFUSED = Counter("spile_outbox_refused", "Rows that the bus refused", ["outbox"])
PENDING = Gauge("spile_outbox_pending_rows", "Rows that wait to be published", ["outbox"])
STUCK = Gauge("spile_outbox_stuck_rows", "Refused rows that nobody has dealt with", ["outbox"])
OLDEST = Gauge("spile_outbox_oldest_seconds", "Age of the oldest row that waits", ["outbox"])
LEADING = Gauge("spile_outbox_leading", "Whether this process publishes the outbox", ["outbox"])
