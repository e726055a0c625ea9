"""Metrics of the persistence worker."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

ROWS = Counter(
    "spile_store_records",
    "Records by outcome: inserted, duplicate (known id), stale (known offset), ignored, poison",
    ["outcome"],
)
APPEND_SECONDS = Histogram(
    "spile_store_append_seconds",
    "Time of one transaction of the event store",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
WAL_BYTES = Gauge("spile_store_wal_bytes", "Size of the write-ahead log of the event store")
EVENTS = Counter(
    "events_processed", "Events handled by the store, repeats included", ["event_type"]
)
ERRORS = Counter("processing_errors", "Records that could not be stored", ["error_type"])
