"""The demonstration: a real Kafka, a real worker, real and made-up agents, and an honest count."""

from spile.services.demo._run import DemoOptions, run_demo
from spile.services.demo._summary import Spread, Summary
from spile.services.demo._traffic import Stopwatch, past_traffic, play
from spile.services.demo._worker import WorkerProcess

__all__ = [
    "DemoOptions",
    "Spread",
    "Stopwatch",
    "Summary",
    "WorkerProcess",
    "past_traffic",
    "play",
    "run_demo",
]
