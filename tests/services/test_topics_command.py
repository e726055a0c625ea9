"""`spile topics` against a real broker."""

from __future__ import annotations

import json
import sys
import types

import pytest
from click.testing import CliRunner

from spile.services.command._topics import topics
from spile.spi import BrokerUnavailableError
from spile.topics import Catalogue, TopicSpec

pytestmark = pytest.mark.kafka


@pytest.fixture
def spile(kafka, unique, monkeypatch):
    """Run `spile topics ...` with a catalogue of one topic and one template."""
    stem = unique("shop")
    module = types.ModuleType("catalogue_of_the_test")
    module.catalogue = Catalogue(
        [
            TopicSpec(name=f"{stem}.orders.placed.v1", owner="shop", partitions=1),
            TopicSpec(name="{service}.orders.counted.v1", owner="shop", partitions=1),
        ],
        services=[f"{stem}-a"],
    )
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setenv("SPILE_CATALOGUE", "catalogue_of_the_test:catalogue")
    monkeypatch.setenv("SPILE_BOOTSTRAP_SERVERS", kafka)
    monkeypatch.setenv("SPILE_ENVIRONMENT", "test")

    def run(*arguments):
        return CliRunner().invoke(topics, list(arguments))

    run.stem = stem
    return run


def test_plan_ends_with_3_until_apply_was_run(spile):
    missing = spile("plan", "--json")
    assert missing.exit_code == 3
    assert len(json.loads(missing.stdout)["missing"]) == 6
    assert spile("apply").exit_code == 0
    settled = spile("plan")
    assert settled.exit_code == 0
    assert "as the catalogue says" in settled.stdout


def test_services_fill_in_the_templates(spile):
    listed = json.loads(spile("list", "--json", "-s", f"{spile.stem}_b").stdout)
    assert f"test.{spile.stem}-b.orders.counted.v1" in {row["topic"] for row in listed}


def test_growing_is_left_undone_without_leave(spile, monkeypatch):
    assert spile("apply").exit_code == 0
    module = sys.modules["catalogue_of_the_test"]
    module.catalogue = Catalogue(
        [TopicSpec(name=f"{spile.stem}.orders.placed.v1", owner="shop", partitions=2)]
    )
    refused = spile("apply")
    assert refused.exit_code == 3
    assert "needs --allow-rekey" in refused.stdout
    assert spile("apply", "--allow-rekey").exit_code == 0
    assert spile("plan").exit_code == 0


def test_list_needs_no_broker(spile, monkeypatch):
    monkeypatch.setenv("SPILE_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    listed = spile("list", "-e", "prod")
    assert listed.exit_code == 0
    assert f"prod.{spile.stem}.orders.placed.v1" in listed.stdout


def test_list_is_whole_in_a_pipe_and_fits_a_terminal(spile, monkeypatch):
    """One line a topic without borders; on 80 columns no name or number is broken."""
    name = f"test.{spile.stem}.orders.placed.v1"
    (line,) = [line for line in spile("list").stdout.splitlines() if line.split()[0] == name]
    assert "  7 days  " in line
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("LINES", "9")
    shown = spile("list").stdout.splitlines()
    assert max(map(len, shown)) <= 60
    assert name in shown


@pytest.mark.parametrize("reference", ["nonsense", "no.such.module:x", "json:dumps"])
def test_a_wrong_catalogue_is_told_in_one_line(spile, monkeypatch, reference):
    monkeypatch.setenv("SPILE_CATALOGUE", reference)
    told = spile("list")
    assert told.exit_code == 2
    assert "SPILE_CATALOGUE" in told.stderr


def test_without_a_broker_it_says_so(spile, monkeypatch):
    monkeypatch.setenv("SPILE_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    told = spile("plan")
    assert told.exit_code == 1
    assert isinstance(told.exception, BrokerUnavailableError)
    assert "127.0.0.1" in str(told.exception)


def test_list_refuses_settings_that_nobody_knows(spile, monkeypatch):
    """A typing error in a name is told even where the setting is not needed."""
    monkeypatch.setenv("SPILE_REGISTRY_ULR", "x")
    done = spile("list")
    assert done.exit_code == 2
    assert "did you mean SPILE_REGISTRY_URL?" in done.output
