"""One environment file serves every part of spile."""

import subprocess
import sys

from spile.services.archiver.stores import ArchiveSettings
from spile.services.runtime import WorkerSettings
from spile.testkit.broker import BrokerSettings
from spile.testkit.simulation import SimulationSettings


def test_an_application_knows_the_variables_of_the_workers():
    """A publisher in an application does not refuse what is meant for a worker beside it."""
    code = "from spile.adapters.kafka import known_settings; print(*known_settings())"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    known = set(done.stdout.split())
    for kind in (ArchiveSettings, WorkerSettings, BrokerSettings):
        own = [name for name, field in kind.model_fields.items() if not field.validation_alias]
        assert {f"SPILE_{name.upper()}" for name in own} <= known
    assert {f"SPILE_SIM_{name.upper()}" for name in SimulationSettings.model_fields} <= known
    assert {"SPILE_CATALOGUE", "SPILE_HOME", "SPILE_CACHE_DIR"} <= known
