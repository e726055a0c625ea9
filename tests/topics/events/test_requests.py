"""The trios of requests and answers, and dead letters as values."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from spile.spi import InvalidEventError
from spile.topics import default_catalogue
from spile.topics.events import (
    AgentRoutingCompleted,
    AgentRoutingFailed,
    AgentRoutingRequested,
    CodeAnalysisCompleted,
    CodeAnalysisFailed,
    CodeAnalysisRequested,
    Octets,
)

SHOWN: dict[str, tuple[type, dict[str, Any]]] = {
    "CODE_ANALYSIS_REQUESTED": (
        CodeAnalysisRequested,
        {
            "operation_type": "PATTERN_EXTRACTION",
            "collection_name": "execution_patterns",
            "options": {"limit": 50, "include_patterns": True, "include_metrics": False},
            "timeout_ms": 5000,
        },
    ),
    "CODE_ANALYSIS_COMPLETED": (
        CodeAnalysisCompleted,
        {
            "patterns": [
                {
                    "name": "State Management",
                    "file_path": "state.py",
                    "confidence": 0.95,
                    "node_types": ["EFFECT"],
                    "use_cases": ["Persistence"],
                }
            ],
            "query_time_ms": 450,
            "total_count": 120,
        },
    ),
    "CODE_ANALYSIS_FAILED": (
        CodeAnalysisFailed,
        {"error_code": "TIMEOUT", "error_message": "too slow", "retryable": True},
    ),
    "AGENT_ROUTING_REQUESTED": (
        AgentRoutingRequested,
        {
            "user_request": "optimise my queries",
            "correlation_id": str(uuid4()),
            "context": {"domain": "databases"},
            "options": {
                "max_recommendations": 3,
                "min_confidence": 0.7,
                "routing_strategy": "enhanced_fuzzy_matching",
                "timeout_ms": 5000,
            },
            "timeout_ms": 5000,
        },
    ),
    "AGENT_ROUTING_COMPLETED": (
        AgentRoutingCompleted,
        {
            "correlation_id": str(uuid4()),
            "recommendations": [
                {
                    "agent_name": "database-agent",
                    "confidence": 0.92,
                    "reasoning": "knows queries",
                    "capabilities": ["query_analysis"],
                    "priority": 1,
                }
            ],
            "routing_metadata": {
                "routing_time_ms": 45,
                "cache_hit": False,
                "candidates_evaluated": 5,
                "routing_strategy": "enhanced_fuzzy_matching",
            },
        },
    ),
    "AGENT_ROUTING_FAILED": (
        AgentRoutingFailed,
        {"error_code": "NO_AGENT", "error_message": "nobody knows", "retryable": False},
    ),
}


@pytest.mark.parametrize("name", SHOWN)
def test_the_trios_are_typed(name):
    """What a responder or a client sends is read as it stands; its own id is lent."""
    model, payload = SHOWN[name]
    route = default_catalogue().resolve(name, environment="dev", service="any")
    assert route.contract.model is model
    prepared = route.contract.prepare(payload)
    read = route.contract.decode(prepared.payload_json)
    assert read.model_dump(mode="json", exclude_unset=True).items() >= payload.items()
    assert prepared.correlation_id == payload.get("correlation_id")


@pytest.mark.parametrize(
    ("name", "change", "field"),
    [
        ("CODE_ANALYSIS_REQUESTED", {"timeout_ms": 0}, "timeout_ms"),
        ("CODE_ANALYSIS_REQUESTED", {"operation_type": ""}, "operation_type"),
        ("CODE_ANALYSIS_REQUESTED", {"options": {"limit": -1}}, "options.limit"),
        ("CODE_ANALYSIS_COMPLETED", {"patterns": [{}]}, "patterns.0.name"),
        ("CODE_ANALYSIS_FAILED", {"retryable": "yes"}, "retryable"),
        ("AGENT_ROUTING_REQUESTED", {"correlation_id": "abc-123"}, "correlation_id"),
        ("AGENT_ROUTING_REQUESTED", {"options": {"min_confidence": 2}}, "options.min_confidence"),
        ("AGENT_ROUTING_FAILED", {"surprise": 1}, "surprise"),
    ],
)
def test_a_wrong_field_is_named(name, change, field):
    """The payloads are strict."""
    route = default_catalogue().resolve(name, environment="dev", service="any")
    with pytest.raises(InvalidEventError) as caught:
        route.contract.prepare({**SHOWN[name][1], **change})
    assert caught.value.field == field


@pytest.mark.parametrize(
    "data", [b"", b"text", "grün".encode(), b"\x00\x01\xff", bytes(range(256))]
)
def test_bytes_survive_as_text_or_base64(data):
    """UTF-8 stays readable, all else becomes base64; the bytes come back."""
    found = Octets.of(data)
    assert found.to_bytes() == data
    assert (found.encoding == "text") == (data.decode(errors="replace").encode() == data)


def test_what_is_no_base64_is_refused():
    """Broken base64 is a ValueError, not other bytes."""
    with pytest.raises(ValueError, match="no base64"):
        Octets(encoding="base64", data="a$b").to_bytes()
