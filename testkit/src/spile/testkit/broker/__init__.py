"""
A real Kafka for tests, demos and development, without a container.

    with EmbeddedBroker() as broker:
        use(broker.bootstrap_servers)

The first start on a machine downloads Kafka and prepares a cache; later ones take about a second.
"""

from __future__ import annotations

from ._cluster import EmbeddedBroker
from ._folder import (
    ClusterFolder,
    remember_standing_folder,
    standing_bootstrap_servers,
    standing_folder,
)
from ._jars import KAFKA_VERSION
from ._process import OwnedProcess
from ._runtime import BrokerRuntime, find_runtime
from ._settings import BrokerSettings
from ._wire import ClusterView, cluster_view

__all__ = [
    "KAFKA_VERSION",
    "BrokerRuntime",
    "BrokerSettings",
    "ClusterFolder",
    "ClusterView",
    "EmbeddedBroker",
    "OwnedProcess",
    "cluster_view",
    "find_runtime",
    "remember_standing_folder",
    "standing_bootstrap_servers",
    "standing_folder",
]
