"""Events of semantic memory."""

from __future__ import annotations

from typing import Literal

from spile.topics._json import JsonObject
from spile.topics._strict import Count, Milliseconds, Name, Number
from spile.topics.events.observability._base import Embedding, ObservabilityEvent


class _MemoryEvent(ObservabilityEvent, frozen=True):
    event_category: Literal["memory"] = "memory"


class SemanticQueryEvent(_MemoryEvent, frozen=True):
    """A memory was searched by meaning."""

    event_type: Literal["SemanticQuery"] = "SemanticQuery"
    query_text: str
    query_embedding: Embedding | None = None
    similarity_threshold: Number | None = None
    max_results: Count | None = None
    filter_criteria: JsonObject | None = None
    results_count: Count | None = None
    search_strategy: str | None = None


class SemanticUpdateEvent(_MemoryEvent, frozen=True):
    """A memory was written."""

    event_type: Literal["SemanticUpdate"] = "SemanticUpdate"
    operation_type: Literal["insert", "update", "delete"]
    content: JsonObject
    content_embedding: Embedding | None = None
    content_id: str | None = None
    content_type: str | None = None
    content_metadata: JsonObject | None = None
    affected_records: Count | None = None


class MemoryConsolidationEvent(_MemoryEvent, frozen=True):
    """Memories were put together."""

    event_type: Literal["MemoryConsolidation"] = "MemoryConsolidation"
    consolidation_type: Name
    items_before: Count | None = None
    items_after: Count | None = None
    duration_ms: Milliseconds | None = None
    summary: JsonObject | None = None
