"""The archiver: every record of an environment in object files, once and for good."""

from spile.services.archiver._uploading import (
    Archived,
    DivergedError,
    OvertakenError,
    archive,
    newest_manifest,
)
from spile.services.archiver._worker import GROUP, archived_topics, archiver_worker
from spile.services.archiver.handler import Archiver

__all__ = [
    "GROUP",
    "Archived",
    "Archiver",
    "DivergedError",
    "OvertakenError",
    "archive",
    "archived_topics",
    "archiver_worker",
    "newest_manifest",
]
