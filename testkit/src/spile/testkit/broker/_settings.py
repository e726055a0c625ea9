"""The few settings of the embedded broker, read from the environment."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class BrokerSettings(BaseSettings):
    """
    Where a broker is, and where the embedded one keeps its files.

    Attributes:
        bootstrap_servers: `SPILE_BOOTSTRAP_SERVERS`; empty means that a broker is to be started.
        cache_dir: `SPILE_CACHE_DIR`, default `~/.cache/spile`: jars, archives, port locks.
        home: `SPILE_HOME`, default `.spile` of the current folder: state of `spile up`.
        java_home: `JAVA_HOME`: the Java to prefer over the search path.
    """

    model_config = SettingsConfigDict(env_prefix="SPILE_", extra="ignore", frozen=True)

    bootstrap_servers: str = ""
    cache_dir: Path = Field(default_factory=lambda: Path.home() / ".cache" / "spile")
    home: Path = Path(".spile")
    java_home: str = Field(default="", validation_alias="JAVA_HOME")
