"""
A delivery ledger: what was tried, what was promised, what arrived, and whether these agree.

Writers note every call before and after it; sinks are read after the system has healed and
drained; `check` compares. The model and the names of the anomalies follow Jepsen's Kafka workload
(https://github.com/jepsen-io/jepsen, `jepsen.tests.kafka`): a call ends `ok` (acknowledged), `fail`
(certainly not written) or `info` (unknown: may appear, at most once).
"""

from spile.testkit.ledger._check import Observation, Seen, Verdict, check
from spile.testkit.ledger._history import Entry, History, Outcome, read_history

__all__ = [
    "Entry",
    "History",
    "Observation",
    "Outcome",
    "Seen",
    "Verdict",
    "check",
    "read_history",
]
