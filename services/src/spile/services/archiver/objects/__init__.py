"""What an archive consists of: object files, their keys and manifests, and where they are cut."""

from spile.services.archiver.objects._container import (
    CODEC,
    MAGIC,
    MAX_BLOCK_BYTES,
    MAX_READ_BYTES,
    SCHEMA,
    SCHEMA_SHA256,
    SYNC_BYTES,
    ObjectWriter,
    sync_marker,
)
from spile.services.archiver.objects._cutting import CuttingRule, PartitionCutter, SealedObject
from spile.services.archiver.objects._keys import (
    MANIFESTS,
    ObjectKey,
    manifest_key,
    parse_manifest_key,
    partition_prefix,
)
from spile.services.archiver.objects._manifests import MAX_MANIFEST_BYTES, Manifest

__all__ = [
    "CODEC",
    "MAGIC",
    "MANIFESTS",
    "MAX_BLOCK_BYTES",
    "MAX_MANIFEST_BYTES",
    "MAX_READ_BYTES",
    "SCHEMA",
    "SCHEMA_SHA256",
    "SYNC_BYTES",
    "CuttingRule",
    "Manifest",
    "ObjectKey",
    "ObjectWriter",
    "PartitionCutter",
    "SealedObject",
    "manifest_key",
    "parse_manifest_key",
    "partition_prefix",
    "sync_marker",
]
