"""
A real Kafka for tests, demos and development, without a container.

    with EmbeddedBroker() as broker:
        use(broker.bootstrap_servers)

The first start on a machine downloads Kafka and prepares a cache; later ones take about a second.
"""

from __future__ import annotations

from ._cluster import EmbeddedBroker
from ._runtime import BrokerRuntime, find_runtime
from ._settings import BrokerSettings
from ._wire import ClusterView, cluster_view

__all__ = [
    "BrokerRuntime",
    "BrokerSettings",
    "ClusterView",
    "EmbeddedBroker",
    "cluster_view",
    "find_runtime",
]
