"""What every worker shares: settings, logs, health, metrics, signals."""

from spile.services.runtime._crash_guard import CrashGuard
from spile.services.runtime._health import Health
from spile.services.runtime._http import side_app, side_server
from spile.services.runtime._logging import configure_logging
from spile.services.runtime._settings import (
    ProcessSettings,
    WorkerSettings,
    load_process_settings,
    store_location,
)
from spile.services.runtime._transport import open_kafka
from spile.services.runtime._worker import Worker, run_process, run_worker, run_workers

__all__ = [
    "CrashGuard",
    "Health",
    "ProcessSettings",
    "Worker",
    "WorkerSettings",
    "configure_logging",
    "load_process_settings",
    "open_kafka",
    "run_process",
    "run_worker",
    "run_workers",
    "side_app",
    "side_server",
    "store_location",
]
