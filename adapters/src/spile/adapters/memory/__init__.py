"""The event bus in memory: partitions, keys, groups, offsets and dead letters as on a broker."""

from spile.adapters.memory._bus import MemoryEventBus
from spile.adapters.memory._cluster import MemoryCluster, MemorySender, MemorySource
from spile.adapters.memory._log import FaultHook, Faults, MemoryTopic, Operation
from spile.adapters.memory._log_reader import MemoryLogReader

__all__ = [
    "FaultHook",
    "Faults",
    "MemoryCluster",
    "MemoryEventBus",
    "MemoryLogReader",
    "MemorySender",
    "MemorySource",
    "MemoryTopic",
    "Operation",
]
