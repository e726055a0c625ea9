"""The trio of code analysis: asked for, answered, failed."""

from __future__ import annotations

from pydantic import Field

from spile.topics._json import JsonObject
from spile.topics._strict import Count, Milliseconds, Name, Share, Strict
from spile.topics._wire import Id
from spile.topics.events.requests._common import FailedRequest, TimeoutMs


class CodeAnalysisOptions(Strict, frozen=True):
    """
    What an analysis should find.

    Attributes:
        limit: At most so many patterns; 50 by default.
        include_patterns: On by default.
        include_metrics: Off by default.
    """

    limit: Count = 50
    include_patterns: bool = True
    include_metrics: bool = False


class CodeAnalysisRequested(Strict, frozen=True):
    """
    Somebody asks for an analysis of code, in a path or in a collection.

    Attributes:
        operation_type: What to do, such as `PATTERN_EXTRACTION`.
        timeout_ms: How long the caller waits; 5000 by default.
        correlation_id: The request's; the envelope carries the same.
    """

    operation_type: Name
    source_path: str | None = None
    collection_name: str | None = None
    language: str | None = None
    options: CodeAnalysisOptions = Field(default_factory=CodeAnalysisOptions)
    timeout_ms: TimeoutMs = 5000
    correlation_id: Id | None = None


class CodePattern(Strict, frozen=True):
    """A pattern found in code, and how sure that is."""

    name: Name
    file_path: str | None = None
    confidence: Share | None = None
    node_types: list[str] = Field(default_factory=list[str])
    use_cases: list[str] = Field(default_factory=list[str])


class CodeAnalysisCompleted(Strict, frozen=True):
    """
    The answer to an analysis.

    Attributes:
        total_count: How many patterns there are; `patterns` may hold fewer.
        metrics: Measures of the code, where they were asked for.
    """

    patterns: list[CodePattern]
    query_time_ms: Milliseconds
    total_count: Count
    metrics: JsonObject | None = None
    correlation_id: Id | None = None


class CodeAnalysisFailed(FailedRequest, frozen=True):
    """An analysis failed."""

    operation_type: str | None = None
