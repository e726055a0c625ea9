"""Prometheus metrics of requests, on both sides."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

REQUESTS = Counter(
    "spile_requests",
    "Requests of this process by what became of them",
    ["trio", "outcome"],
)
REQUEST_SECONDS = Histogram(
    "spile_request_seconds",
    "Time from a request to its answer",
    ["trio"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
STRAY_ANSWERS = Counter(
    "spile_stray_answers",
    "Answers that nobody waited for any more: late ones and repeats",
    ["trio", "reason"],
)
RESPONSES = Counter(
    "spile_responses",
    "Requests that this process took by what became of them",
    ["trio", "outcome"],
)
RESPONSES_RUNNING = Gauge("spile_responses_running", "Requests in the hands of handlers", ["trio"])
RESPONSES_RECLOCKED = Counter(
    "spile_responses_reclocked",
    "Requests whose record time cannot be, judged by their arrival: clocks disagree",
    ["trio"],
)
