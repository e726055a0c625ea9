"""Whether readers with one schema can read what was written with another one."""

from spile.topics.schemas.comparison._compare import compare
from spile.topics.schemas.comparison._difference import Difference, Level, SchemaKind, join
from spile.topics.schemas.comparison._json_limits import same, types_of
from spile.topics.schemas.comparison._json_subset import JsonReading, Schema, resolve

__all__ = [
    "Difference",
    "JsonReading",
    "Level",
    "Schema",
    "SchemaKind",
    "compare",
    "join",
    "resolve",
    "same",
    "types_of",
]
