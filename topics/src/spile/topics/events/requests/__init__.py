"""Requests and their answers: a payload each for asked, completed and failed."""

from spile.topics.events.requests._agent_routing import (
    AgentRecommendation,
    AgentRoutingCompleted,
    AgentRoutingFailed,
    AgentRoutingMetadata,
    AgentRoutingOptions,
    AgentRoutingRequested,
)
from spile.topics.events.requests._code_analysis import (
    CodeAnalysisCompleted,
    CodeAnalysisFailed,
    CodeAnalysisOptions,
    CodeAnalysisRequested,
    CodePattern,
)
from spile.topics.events.requests._common import FailedRequest

__all__ = [
    "AgentRecommendation",
    "AgentRoutingCompleted",
    "AgentRoutingFailed",
    "AgentRoutingMetadata",
    "AgentRoutingOptions",
    "AgentRoutingRequested",
    "CodeAnalysisCompleted",
    "CodeAnalysisFailed",
    "CodeAnalysisOptions",
    "CodeAnalysisRequested",
    "CodePattern",
    "FailedRequest",
]
