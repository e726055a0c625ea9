"""`spile archive`: what is archived, whether it is whole, and giving it back."""

from spile.services.command.archive._group import archive

__all__ = ["archive"]
