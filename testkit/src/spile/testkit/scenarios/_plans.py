"""The six kinds of work: a table of steps for each."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from spile.testkit.scenarios._values import Node, Plan, Use, WorkflowScenario

_CODE_REVIEW = Plan(
    name="review of a change",
    goal="review {branch} before it is merged",
    priority="normal",
    result="approved with remarks",
    nodes=(
        Node(
            node_id="fetch",
            node_type="retrieval",
            title="Fetch the change",
            role="reviewer",
            uses=(Use(tool="git_diff"), Use(tool="Read", least=1, most=4)),
        ),
        Node(
            node_id="understand",
            node_type="analysis",
            title="See who depends on it",
            role="reviewer",
            asks="earlier remarks about {file}",
            uses=(Use(tool="Grep", least=1, most=3), Use(tool="Read", least=1, most=3)),
        ),
        Node(
            node_id="check",
            node_type="verification",
            title="Run tests and linter",
            role="tester",
            uses=(Use(tool="run_tests"), Use(tool="lint")),
        ),
        Node(
            node_id="remark",
            node_type="communication",
            title="Write remarks",
            role="reviewer",
            uses=(Use(tool="post_comment", least=1, most=4),),
            learns="remarks on {symbol}",
        ),
    ),
)

_FEATURE_DEVELOPMENT = Plan(
    name="development of a feature",
    goal="add a limit to {symbol} in {file}",
    priority="normal",
    result="feature built and tested",
    updates=("lint",),
    nodes=(
        Node(
            node_id="explore",
            node_type="retrieval",
            title="Look around",
            role="planner",
            asks="how {symbol} is meant to work",
            uses=(Use(tool="Glob"), Use(tool="Grep", most=3), Use(tool="Read", least=2, most=5)),
        ),
        Node(
            node_id="build",
            node_type="change",
            title="Write the code",
            role="developer",
            uses=(Use(tool="Write", most=2), Use(tool="Edit", least=2, most=6)),
        ),
        Node(
            node_id="test",
            node_type="verification",
            title="Write tests and run them",
            role="developer",
            uses=(Use(tool="Write"), Use(tool="run_tests", most=2), Use(tool="lint")),
        ),
        Node(
            node_id="look-over",
            node_type="analysis",
            title="Read the whole change",
            role="reviewer",
            uses=(Use(tool="git_diff"), Use(tool="Read", most=2)),
            learns="the limit of {symbol}",
        ),
    ),
)

_BUG_INVESTIGATION = Plan(
    name="investigation of a bug",
    goal="find out why {symbol} fails in {service}",
    priority="high",
    result="cause found and fixed",
    nodes=(
        Node(
            node_id="reproduce",
            node_type="verification",
            title="Make it fail",
            role="investigator",
            uses=(Use(tool="query_logs", most=2), Use(tool="run_tests")),
        ),
        Node(
            node_id="locate",
            node_type="analysis",
            title="Find the cause",
            role="investigator",
            asks="failures like this one in {service}",
            uses=(
                Use(tool="Grep", least=2, most=4),
                Use(tool="Read", least=2, most=6),
                Use(tool="WebSearch", least=0),
            ),
        ),
        Node(
            node_id="repair",
            node_type="change",
            title="Repair it",
            role="developer",
            uses=(Use(tool="Edit", most=3), Use(tool="Bash", least=0, most=2)),
        ),
        Node(
            node_id="prove",
            node_type="verification",
            title="Prove that it is gone",
            role="developer",
            uses=(Use(tool="run_tests", most=2), Use(tool="git_diff")),
            learns="why {symbol} failed",
        ),
    ),
)

_PERFORMANCE_OPTIMIZATION = Plan(
    name="optimisation of performance",
    goal="make {symbol} in {service} twice as fast",
    priority="normal",
    result="p95 halved",
    brings=("run_profiler",),
    nodes=(
        Node(
            node_id="measure",
            node_type="measurement",
            title="Measure what is",
            role="analyst",
            uses=(Use(tool="run_profiler", most=2), Use(tool="query_logs")),
        ),
        Node(
            node_id="explain",
            node_type="analysis",
            title="Find where the time goes",
            role="analyst",
            asks="earlier measurements of {service}",
            uses=(Use(tool="Read", least=2, most=4), Use(tool="Grep", most=2)),
        ),
        Node(
            node_id="change",
            node_type="change",
            title="Take the cost out",
            role="developer",
            uses=(Use(tool="Edit", least=1, most=4), Use(tool="run_tests")),
        ),
        Node(
            node_id="compare",
            node_type="measurement",
            title="Measure again",
            role="analyst",
            uses=(Use(tool="run_profiler", most=2),),
            learns="what made {symbol} slow",
        ),
    ),
)

_SECURITY_AUDIT = Plan(
    name="audit of security",
    goal="look for ways around {symbol}",
    priority="high",
    result="audited, two findings of low severity",
    brings=("scan_dependencies",),
    updates=("WebSearch",),
    nodes=(
        Node(
            node_id="inventory",
            node_type="retrieval",
            title="List what is there",
            role="auditor",
            uses=(Use(tool="Glob"), Use(tool="scan_dependencies")),
        ),
        Node(
            node_id="search",
            node_type="analysis",
            title="Search for known mistakes",
            role="auditor",
            asks="earlier findings in {folder}",
            uses=(
                Use(tool="Grep", least=3, most=6),
                Use(tool="Read", least=1, most=4),
                Use(tool="WebSearch", most=2),
            ),
        ),
        Node(
            node_id="verify",
            node_type="verification",
            title="Try the findings",
            role="tester",
            uses=(Use(tool="Bash", most=3), Use(tool="run_tests")),
        ),
        Node(
            node_id="report",
            node_type="communication",
            title="Report",
            role="auditor",
            uses=(Use(tool="Write"), Use(tool="post_comment", most=2)),
            learns="findings in {folder}",
        ),
    ),
)

_DOCUMENTATION_UPDATE = Plan(
    name="update of documentation",
    goal="bring the pages about {symbol} up to date",
    priority="low",
    result="pages agree with the code",
    nodes=(
        Node(
            node_id="compare",
            node_type="analysis",
            title="Compare pages and code",
            role="writer",
            uses=(Use(tool="Glob"), Use(tool="Read", least=2, most=5), Use(tool="Grep", most=2)),
        ),
        Node(
            node_id="write",
            node_type="change",
            title="Rewrite what is wrong",
            role="writer",
            uses=(Use(tool="Edit", least=1, most=4), Use(tool="Write", least=0)),
        ),
        Node(
            node_id="try",
            node_type="verification",
            title="Try the examples",
            role="tester",
            uses=(Use(tool="Bash", most=2), Use(tool="lint")),
        ),
    ),
)

PLANS: Final[Mapping[WorkflowScenario, Plan]] = MappingProxyType(
    {
        WorkflowScenario.CODE_REVIEW: _CODE_REVIEW,
        WorkflowScenario.FEATURE_DEVELOPMENT: _FEATURE_DEVELOPMENT,
        WorkflowScenario.BUG_INVESTIGATION: _BUG_INVESTIGATION,
        WorkflowScenario.PERFORMANCE_OPTIMIZATION: _PERFORMANCE_OPTIMIZATION,
        WorkflowScenario.SECURITY_AUDIT: _SECURITY_AUDIT,
        WorkflowScenario.DOCUMENTATION_UPDATE: _DOCUMENTATION_UPDATE,
    }
)
"""The steps of each scenario."""
