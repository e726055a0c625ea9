"""What the README tells newcomers to type works as it stands."""

import contextlib
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from spile.adapters.memory import MemoryEventBus
from spile.spi import InvalidEventError

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


@pytest.fixture
def orders(tmp_path):
    for code in blocks("python"):
        if named := re.match(r"# (\w+\.py)\n", code):
            (tmp_path / named[1]).write_text(code, encoding="utf-8")
    return tmp_path


@pytest.mark.kafka
def test_an_event_of_ones_own_takes_the_steps_of_the_readme(orders):
    """Broker, topics, subscribe, publish, persist, look: as written, in one shell."""
    steps = next(block for block in blocks("sh") if "spile up" in block)
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("SPILE_") or name == "SPILE_CACHE_DIR"
    }
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    with (orders / "output").open("w+") as output:
        shell = subprocess.Popen(
            ["bash", "-euo", "pipefail", "-c", steps],
            cwd=orders,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            code = shell.wait(timeout=100)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(shell.pid, signal.SIGKILL)
            down = [Path(sys.executable).parent / "spile", "down"]
            subprocess.run(down, cwd=orders, env=environment, check=False, capture_output=True)
        output.seek(0)
        said = output.read()
    assert code == 0, said
    assert "confirmed by all in-sync replicas: True" in said
    assert "billed: o-1 9.5" in said
    assert re.search(r"^\S+Z  ORDER_PLACED +shop  \S+$", said, re.MULTILINE), said


async def test_a_wrong_event_is_refused_as_the_readme_says(orders, monkeypatch):
    """The error names the field, in the words that the README shows."""
    monkeypatch.syspath_prepend(str(orders))
    from orders import catalogue  # noqa: PLC0415 - written by the fixture

    from spile.adapters.publishing import EventPublisher  # noqa: PLC0415

    bus = MemoryEventBus(catalogue=catalogue)
    publisher = EventPublisher(bus.cluster.sender(), catalogue, environment="dev", service="shop")
    with pytest.raises(InvalidEventError) as caught:
        await publisher.publish("ORDER_PLACED", {"order_id": 5, "total": 9.5})
    said = next(line for line in README.splitlines() if line.startswith("# InvalidEventError: "))
    assert str(caught.value) == said.removeprefix("# InvalidEventError: ")


def test_every_file_that_the_readme_names_is_there():
    """Links and folders of the file map exist."""
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
    for folder in re.findall(r"^\| `(\w+)/`", README, re.MULTILINE):
        assert (ROOT / folder).is_dir(), folder


def test_every_make_target_has_a_line_of_help():
    """`make help` shows each target that the README and the CI use."""
    done = subprocess.run(
        ["make", "help"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    for target in ("demo", "test", "test-fast", "check", "bench", "up", "down", "topics", "run"):
        assert re.search(rf"^\s+{target}\s+\S", done.stdout, re.MULTILINE), target
