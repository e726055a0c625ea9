"""
Import of what agents leave behind: transcripts and trajectories become observability events.

`read_events` reads one file, `import_files` publishes many. A small recorded session ships with
the package: `recorded_session()`.
"""

from importlib.resources import files
from pathlib import Path

from spile.services.importing._outgoing import publish_through
from spile.services.importing._publishing import ImportReport, Publish, ToolFigures, import_files
from spile.services.importing._reading import detect_format, read_events
from spile.services.importing._records import (
    Format,
    ImportedEvent,
    Malformed,
    Observation,
    Record,
    Skipped,
)

__all__ = [
    "Format",
    "ImportReport",
    "ImportedEvent",
    "Malformed",
    "Observation",
    "Publish",
    "Record",
    "Skipped",
    "ToolFigures",
    "detect_format",
    "import_files",
    "publish_through",
    "read_events",
    "recorded_session",
]


def recorded_session() -> Path:
    """
    Give the recorded session that ships with spile: a bug fix, as Claude Code writes it down.

    The repository and everything in it are invented.
    """
    return Path(str(files("spile.services.importing").joinpath("recorded", "session.jsonl")))
