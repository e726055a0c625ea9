"""What publishers report of what they published."""

from spile.topics.events.audit._counted import AuditCounted, AuditRow

__all__ = ["AuditCounted", "AuditRow"]
