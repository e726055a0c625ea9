"""The demonstration: a real Kafka, a real worker, real and made-up agents, and an honest count."""

from spile.services.demo._run import DemoOptions, run_demo
from spile.services.demo._summary import Spread, Summary
from spile.services.demo._worker import WorkerProcess

__all__ = ["DemoOptions", "Spread", "Summary", "WorkerProcess", "run_demo"]
