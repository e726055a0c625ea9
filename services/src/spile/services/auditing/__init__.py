"""The audit: events by topic and minute, counted at every tier and compared."""

from spile.services.auditing._auditor import Archived, Auditor
from spile.services.auditing._metrics import show
from spile.services.auditing._minutes import event_minute
from spile.services.auditing._store import SqliteStoreTier, StoreTier
from spile.services.auditing._values import (
    ArchivedPartition,
    ArchivedRange,
    AuditReport,
    Difference,
    MinuteCounts,
    StoreCounts,
    Window,
)

__all__ = [
    "Archived",
    "ArchivedPartition",
    "ArchivedRange",
    "AuditReport",
    "Auditor",
    "Difference",
    "MinuteCounts",
    "SqliteStoreTier",
    "StoreCounts",
    "StoreTier",
    "Window",
    "event_minute",
    "show",
]
