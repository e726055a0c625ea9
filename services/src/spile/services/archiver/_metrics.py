"""Metrics of the archiver."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

OBJECTS = Counter(
    "spile_archive_objects",
    "Objects archived, by outcome: written, present (an earlier try had written it)",
    ["outcome"],
)
RECORDS = Counter("spile_archive_records", "Records archived, ticks included")
BYTES = Counter("spile_archive_bytes", "Bytes of the archived objects")
UPLOAD_SECONDS = Histogram(
    "spile_archive_upload_seconds",
    "Time to write and verify one object and its manifest",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
)
ERRORS = Counter(
    "spile_archive_upload_errors", "Uploads that failed and are tried again", ["error_type"]
)
DIVERGED = Counter(
    "spile_archive_diverged", "Objects that are there with other records than the log has"
)
HELD_BYTES = Gauge("spile_archive_buffer_bytes", "Bytes of objects that are not archived yet")
PAUSED = Gauge("spile_archive_paused_partitions", "Partitions that wait for the archive")
TICKS = Counter("spile_archive_ticks", "Records published to close objects of idle partitions")
