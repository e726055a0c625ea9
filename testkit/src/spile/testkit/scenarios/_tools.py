"""How the tools behave that agents use: a table."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from spile.testkit.scenarios._values import Failure, ToolProfile

_NOT_FOUND = Failure(
    error_type="FileNotFoundError",
    message="no such file: {file}",
    strategy="search_then_retry",
)
_STALE_TEXT = Failure(
    error_type="TextNotFoundError",
    message="the text to replace is not in {file}; it changed since it was read",
    strategy="read_again_then_retry",
)
_TIMEOUT = Failure(
    error_type="ToolTimeoutError",
    message="{command}: no end within the time limit",
    strategy="retry_with_longer_limit",
    severity="medium",
)
_EXIT_CODE = Failure(
    error_type="CommandFailedError",
    message="{command}: exit code 1",
    strategy="correct_and_retry",
)
_TESTS_FAIL = Failure(
    error_type="TestsFailedError",
    message="2 failed, 143 passed in {file}",
    strategy="correct_and_retry",
    severity="medium",
)
_RATE_LIMIT = Failure(
    error_type="RateLimitedError",
    message="too many requests, retry after 2 s",
    strategy="back_off_and_retry",
    severity="medium",
)
_UNREACHABLE = Failure(
    error_type="ConnectionResetError",
    message="connection to {service} was reset",
    strategy="reconnect_and_retry",
    severity="high",
)

_PROFILES: Final = (
    ToolProfile(
        name="Read",
        parameters={"file_path": "file"},
        median_ms=14,
        spread=0.8,
        failure_odds=0.015,
        failures=(_NOT_FOUND,),
        result_bytes=2_400,
    ),
    ToolProfile(
        name="Grep",
        parameters={"pattern": "symbol", "path": "folder"},
        median_ms=55,
        failure_odds=0.005,
        failures=(_TIMEOUT,),
        result_bytes=700,
    ),
    ToolProfile(
        name="Glob",
        parameters={"pattern": "glob"},
        median_ms=28,
        failure_odds=0.002,
        failures=(_TIMEOUT,),
        result_bytes=350,
    ),
    ToolProfile(
        name="Edit",
        parameters={"file_path": "file", "replaced": "symbol"},
        median_ms=22,
        failure_odds=0.04,
        failures=(_STALE_TEXT, _NOT_FOUND),
        result_bytes=450,
    ),
    ToolProfile(
        name="Write",
        parameters={"file_path": "file"},
        median_ms=18,
        failure_odds=0.004,
        failures=(_EXIT_CODE,),
        result_bytes=120,
    ),
    ToolProfile(
        name="Bash",
        parameters={"command": "command"},
        median_ms=420,
        spread=1.1,
        failure_odds=0.06,
        failures=(_EXIT_CODE, _TIMEOUT),
        result_bytes=800,
    ),
    ToolProfile(
        name="run_tests",
        parameters={"target": "test", "reruns": "count"},
        median_ms=6_500,
        spread=0.7,
        failure_odds=0.13,
        failures=(_TESTS_FAIL, _TIMEOUT),
        result_bytes=1_800,
    ),
    ToolProfile(
        name="git_diff",
        parameters={"base": "branch", "path": "folder"},
        median_ms=90,
        failure_odds=0.01,
        failures=(_EXIT_CODE,),
        result_bytes=4_500,
    ),
    ToolProfile(
        name="lint",
        parameters={"path": "folder"},
        median_ms=850,
        failure_odds=0.05,
        failures=(_EXIT_CODE,),
        result_bytes=500,
    ),
    ToolProfile(
        name="query_logs",
        parameters={"service": "service", "pattern": "symbol", "minutes": "count"},
        median_ms=1_300,
        spread=0.9,
        failure_odds=0.05,
        failures=(_UNREACHABLE, _TIMEOUT),
        result_bytes=6_000,
    ),
    ToolProfile(
        name="run_profiler",
        parameters={"command": "command", "seconds": "count"},
        median_ms=9_500,
        spread=0.4,
        failure_odds=0.04,
        failures=(_TIMEOUT,),
        result_bytes=9_000,
    ),
    ToolProfile(
        name="scan_dependencies",
        parameters={"path": "folder"},
        median_ms=3_800,
        failure_odds=0.05,
        failures=(_UNREACHABLE, _RATE_LIMIT),
        result_bytes=3_000,
    ),
    ToolProfile(
        name="WebSearch",
        parameters={"query": "question"},
        median_ms=1_900,
        failure_odds=0.07,
        failures=(_RATE_LIMIT, _UNREACHABLE),
        result_bytes=3_500,
    ),
    ToolProfile(
        name="post_comment",
        parameters={"change": "branch", "file_path": "file"},
        median_ms=340,
        failure_odds=0.03,
        failures=(_RATE_LIMIT,),
        result_bytes=150,
    ),
)

TOOLS: Final[Mapping[str, ToolProfile]] = MappingProxyType({one.name: one for one in _PROFILES})
"""The tools by name."""
