"""
Deterministic simulation: real asyncio code on virtual time, under seeded faults.

A scenario is a coroutine that gets a `Simulation`: a cluster in memory whose calls fail, processes
that stop and die between any two steps, and a loop whose interleavings come from the seed. Hours
pass in milliseconds, and a seed that failed fails again.

Source of the method: FoundationDB's simulation (https://apple.github.io/foundationdb/testing.html).
"""

from spile.testkit.simulation._book import Book
from spile.testkit.simulation._clock import VirtualClock
from spile.testkit.simulation._cluster import SimulatedCluster, SimulatedSender, SimulatedSource
from spile.testkit.simulation._crowd import Crowd
from spile.testkit.simulation._faults import FaultPlan, FaultRates
from spile.testkit.simulation._loop import SimulationStuckError, VirtualLoop
from spile.testkit.simulation._process import Process, ProcessDiedError
from spile.testkit.simulation._settings import SimulationSettings
from spile.testkit.simulation._simulation import Scenario, Simulation, simulate
from spile.testkit.simulation._trace import Trace

__all__ = [
    "Book",
    "Crowd",
    "FaultPlan",
    "FaultRates",
    "Process",
    "ProcessDiedError",
    "Scenario",
    "SimulatedCluster",
    "SimulatedSender",
    "SimulatedSource",
    "Simulation",
    "SimulationSettings",
    "SimulationStuckError",
    "Trace",
    "VirtualClock",
    "VirtualLoop",
    "simulate",
]
