"""`spile audit`: events counted at every tier and compared."""

from spile.services.command.audit._group import audit

__all__ = ["audit"]
