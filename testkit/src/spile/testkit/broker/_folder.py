"""The folder of a cluster: what lets a later process find its brokers, and end only those."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from spile.spi import ConfigurationError

from ._process import ProcessMark
from ._properties import BrokerAddress
from ._settings import BrokerSettings

_CLUSTER = TypeAdapter(list[BrokerAddress])
_MARK = TypeAdapter(ProcessMark)
_POINTER = "broker.path"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterFolder:
    """
    `cluster.json` with the addresses, and `node<n>/` for each broker.

    A node's folder holds `data/`, `server.properties`, `broker.log` and `pid.json`.

    Attributes:
        path: The folder; need not exist yet.
    """

    path: Path

    def home(self, node: int) -> Path:
        """Return the folder of one broker."""
        return self.path / f"node{node}"

    def log(self, node: int) -> Path:
        """Return the log file of one broker."""
        return self.home(node) / "broker.log"

    def addresses(self) -> list[BrokerAddress]:
        """
        Return where the brokers listen; empty when no cluster was laid out here.

        Raises:
            ConfigurationError: When the record cannot be read.
        """
        record = self.path / "cluster.json"
        try:
            return _CLUSTER.validate_json(record.read_bytes()) if record.is_file() else []
        except ValidationError as error:
            raise ConfigurationError(f"{record} is damaged; delete the folder") from error

    def remember_addresses(self, cluster: Sequence[BrokerAddress]) -> None:
        """Write down where the brokers listen."""
        (self.path / "cluster.json").write_bytes(_CLUSTER.dump_json(list(cluster)))

    def mark(self, node: int) -> ProcessMark | None:
        """Return the process of one broker, when it runs."""
        record = self.home(node) / "pid.json"
        try:
            mark = _MARK.validate_json(record.read_bytes())
        except (FileNotFoundError, ValidationError):
            return None
        return mark if mark.alive else None

    def remember_mark(self, node: int, mark: ProcessMark) -> None:
        """Write down the process of one broker."""
        (self.home(node) / "pid.json").write_bytes(_MARK.dump_json(mark))

    def running(self) -> list[int]:
        """Return the nodes whose process runs."""
        return [address.node for address in self.addresses() if self.mark(address.node)]

    def bootstrap_servers(self) -> str:
        """Return the addresses of all brokers, joined by commas."""
        return ",".join(address.client for address in self.addresses())

    def end(self) -> list[int]:
        """
        End every broker of this folder with SIGKILL; the data stay.

        Returns:
            The nodes that were running.
        """
        ended: list[int] = []
        for address in self.addresses():
            if mark := self.mark(address.node):
                mark.end()
                ended.append(address.node)
        return ended


def standing_folder(home: Path) -> ClusterFolder:
    """Return the folder of the broker that `spile up` started, or would start, for this home."""
    pointer = home / _POINTER
    text = pointer.read_text(encoding="utf-8").strip() if pointer.is_file() else ""
    return ClusterFolder(path=Path(text) if text else home / "broker")


def remember_standing_folder(home: Path, folder: Path) -> None:
    """Make this folder the one that later commands find."""
    home.mkdir(parents=True, exist_ok=True)
    (home / _POINTER).write_text(f"{folder.resolve()}\n", encoding="utf-8")


def standing_bootstrap_servers() -> str | None:
    """
    Return `SPILE_BOOTSTRAP_SERVERS`, else the address of a broker that `spile up` left running.

    Returns:
        None when neither is there.
    """
    settings = BrokerSettings()
    if settings.bootstrap_servers:
        return settings.bootstrap_servers
    folder = standing_folder(settings.home)
    return folder.bootstrap_servers() if folder.running() else None
