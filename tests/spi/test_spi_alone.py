"""The contracts stand alone."""

import json
import subprocess
import sys
import venv
from pathlib import Path

import pytest

import spile.spi

ROOT = Path(__file__).parents[2]
SEED_NAMES = [
    "ProtocolEventBus",
    "ProtocolEventBusHeaders",
    "ProtocolEventMessage",
    "ProtocolEventEnvelope",
    "ProtocolEventPublisher",
    "ProtocolKafkaAdapter",
    "ProtocolKafkaEventBusAdapter",
    "ProtocolKafkaConfig",
    "ProtocolKafkaClient",
    "ProtocolRedpandaAdapter",
    "ProtocolEventBusInMemory",
    "ProtocolEventBusContextManager",
    "ProtocolEventBusService",
    "ProtocolSyncEventBus",
    "ProtocolAsyncEventBus",
    "ProtocolEventBusRegistry",
    "ProtocolEventBusLogEmitter",
    "ProtocolEventOrchestrator",
    "ProtocolDLQHandler",
    "ProtocolSchemaRegistry",
    "ProtocolEvent",
    "ProtocolAgentEvent",
    "ProtocolWorkResult",
    "ProtocolProgressUpdate",
    "ProtocolEventData",
    "ProtocolEventStringData",
    "ProtocolEventStringListData",
    "ProtocolEventStringDictData",
    "ContextValue",
]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """A Python that has spile-spi and what that asks for, and nothing else."""
    folder = tmp_path_factory.mktemp("alone")
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    uv = next(path for path in (ROOT / ".cache" / "uv" / "bin" / "uv", Path("uv")) if _runs(path))
    install = [uv, "pip", "install", "--quiet", "--python", python, ROOT / "spi"]
    subprocess.run(install, check=True, timeout=120)
    return python


def _runs(program):
    try:
        return (
            subprocess.run([program, "--version"], check=False, capture_output=True).returncode == 0
        )
    except OSError:
        return False


def test_it_depends_on_typing_extensions_alone(alone):
    """Installed alone it imports, and nothing else came along."""
    code = (
        "import json, sys, spile.spi; from importlib.metadata import distributions;"
        "print(json.dumps(sorted(d.metadata['Name'] for d in distributions())));"
        "print(len(spile.spi.__all__))"
    )
    done = subprocess.run(
        [alone, "-W", "error", "-c", code], check=True, capture_output=True, text=True, timeout=60
    )
    names, count = done.stdout.splitlines()
    assert json.loads(names) == ["spile-spi", "typing-extensions"] or json.loads(names) == [
        "spile-spi",
        "typing_extensions",
    ]
    assert int(count) == len(spile.spi.__all__)


def test_every_name_of_the_contract_is_there():
    """The seed's names are public, and `__all__` is sorted and says what there is."""
    assert set(SEED_NAMES) <= set(spile.spi.__all__)
    public = [name for name in vars(spile.spi) if not name.startswith("_")]
    assert sorted(public) == sorted(spile.spi.__all__) == list(spile.spi.__all__)


def test_our_contracts_keep_their_own_rules():
    """`spile spi check` finds nothing in them."""
    done = subprocess.run(
        [sys.executable, "-m", "spile.services.command", "spi", "check", ROOT / "spi" / "src"],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    "name", [n for n in spile.spi.__all__ if n.startswith("Protocol") and n != "ProtocolDateTime"]
)
def test_every_protocol_is_runtime_checkable(name):
    """`isinstance` works, though it compares names only."""
    assert getattr(getattr(spile.spi, name), "_is_runtime_protocol", False)


def test_an_error_says_whether_a_retry_can_help():
    """Every error of the tree has the flag, and the standard bases that the contract promises."""
    errors = [
        e for e in vars(spile.spi).values() if isinstance(e, type) and issubclass(e, Exception)
    ]
    assert len(errors) > 15
    for error in errors:
        assert error.__name__.endswith("Error")
        assert error.retriable is issubclass(error, spile.spi.RetriableError)
    assert issubclass(spile.spi.CircuitOpenError, RuntimeError)
    assert issubclass(spile.spi.DeliveryTimeoutError, TimeoutError)
