"""Settings of a worker process."""

import pytest

from spile.services.runtime import load_process_settings
from spile.spi import ConfigurationError


def test_every_mistake_is_one_line(monkeypatch):
    """Mistakes of the worker's and of the connection's settings are reported together."""
    monkeypatch.setenv("SPILE_HTTP_PORT", "99999999")
    monkeypatch.setenv("SPILE_BOOTSTRAP_SERVERS", "nonsense")
    monkeypatch.setenv("SPILE_HTTP_PROT", "1")

    with pytest.raises(ConfigurationError) as caught:
        load_process_settings()

    lines = sorted(line.partition(":")[0] for line in str(caught.value).splitlines())
    assert lines == ["SPILE_BOOTSTRAP_SERVERS", "SPILE_HTTP_PORT", "SPILE_HTTP_PROT"]


def test_settings_come_from_the_environment(monkeypatch):
    """Values are read from SPILE_ variables and cannot be changed afterwards."""
    monkeypatch.setenv("SPILE_HTTP_PORT", "9000")
    monkeypatch.setenv("SPILE_STORE", "/data/events.db")

    settings = load_process_settings().worker

    assert (settings.http_port, settings.store) == (9000, "/data/events.db")
    with pytest.raises(ValueError, match="frozen"):
        settings.http_port = 1
