"""Redaction: secrets are found and replaced before anything is written."""

from spile.topics.redaction._detectors import REDACTED
from spile.topics.redaction._marks import Sensitive, sensitive_paths
from spile.topics.redaction._names import DEFAULT_FIELDS
from spile.topics.redaction._quoting import quotable
from spile.topics.redaction._redactor import (
    Redacted,
    RedactionRules,
    Redactor,
    default_redactor,
)

__all__ = [
    "DEFAULT_FIELDS",
    "REDACTED",
    "Redacted",
    "RedactionRules",
    "Redactor",
    "Sensitive",
    "default_redactor",
    "quotable",
    "sensitive_paths",
]
