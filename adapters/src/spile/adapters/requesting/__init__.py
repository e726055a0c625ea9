"""Requests over the bus: a client that waits for the answer, a responder that gives it."""

from spile.adapters.requesting._client import RequestClient, RequestCounts
from spile.adapters.requesting._responder import Responder
from spile.adapters.requesting._tally import ResponderCounts
from spile.adapters.requesting._trio import AGENT_ROUTING, CODE_ANALYSIS, Trio

__all__ = [
    "AGENT_ROUTING",
    "CODE_ANALYSIS",
    "RequestClient",
    "RequestCounts",
    "Responder",
    "ResponderCounts",
    "Trio",
]
