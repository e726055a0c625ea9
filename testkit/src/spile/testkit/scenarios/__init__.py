"""
Whole workflows of AI agents, made up but lifelike: causally ordered, repeatable from a seed.

    generator = MockEventGenerator(seed=7)
    for event in generator.generate_workflow_scenario(WorkflowScenario.CODE_REVIEW):
        ...

`generate_workflow` gives the same events with what a publisher needs beside them: correlation and
causation ids; `with_related` adds the session, the episode and the telemetry around them.
"""

from spile.testkit.scenarios._generator import MockEventGenerator, generate_sample_events
from spile.testkit.scenarios._plans import PLANS
from spile.testkit.scenarios._related import with_related
from spile.testkit.scenarios._values import (
    GeneratedEvent,
    Node,
    Plan,
    RelatedEvent,
    ToolProfile,
    Use,
    WorkflowScenario,
)

__all__ = [
    "PLANS",
    "GeneratedEvent",
    "MockEventGenerator",
    "Node",
    "Plan",
    "RelatedEvent",
    "ToolProfile",
    "Use",
    "WorkflowScenario",
    "generate_sample_events",
    "with_related",
]
