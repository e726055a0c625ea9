"""
The schemas of all events: generated from the models, released, compared.

`compare` gives the verdict of a schema registry, `changes` that of the house's own rule for
releases, which is stricter.
"""

from spile.topics.schemas._asyncapi import ASYNCAPI_VERSION, asyncapi
from spile.topics.schemas._check import Finding, check_schemas
from spile.topics.schemas._envelope import event_schema
from spile.topics.schemas._export import ExportFormat, avro_schemas, to_yaml
from spile.topics.schemas._families import FAMILIES, Family, family
from spile.topics.schemas._files import (
    Release,
    broken_releases,
    delete_strays,
    freeze,
    generated_files,
    releases,
    render,
    stale_files,
    write_files,
)
from spile.topics.schemas._policy import Change, changes
from spile.topics.schemas._versions import Version
from spile.topics.schemas.comparison import Difference, Level, SchemaKind, compare

__all__ = [
    "ASYNCAPI_VERSION",
    "FAMILIES",
    "Change",
    "Difference",
    "ExportFormat",
    "Family",
    "Finding",
    "Level",
    "Release",
    "SchemaKind",
    "Version",
    "asyncapi",
    "avro_schemas",
    "broken_releases",
    "changes",
    "check_schemas",
    "compare",
    "delete_strays",
    "event_schema",
    "family",
    "freeze",
    "generated_files",
    "releases",
    "render",
    "stale_files",
    "to_yaml",
    "write_files",
]
