"""`spile dlq`: dead letters, for people."""

from spile.services.command.dlq._group import dlq

__all__ = ["dlq"]
