"""The demonstration: a real Kafka, a real worker, real and made-up agents, and an honest count."""

from spile.services.demo._run import DemoOptions, run_demo
from spile.services.demo._summary import Spread, Summary

__all__ = ["DemoOptions", "Spread", "Summary", "run_demo"]
