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
from ._jars import KAFKA_VERSION, maven_program, run_download
from ._java import Java, system_java, wheel_java
from ._ports import PortLease
from ._process import OwnedProcess
from ._properties import BrokerAddress
from ._runtime import BrokerRuntime, find_runtime
from ._settings import BrokerSettings
from ._wire import ClusterView, cluster_view

__all__ = [
    "KAFKA_VERSION",
    "BrokerAddress",
    "BrokerRuntime",
    "BrokerSettings",
    "ClusterFolder",
    "ClusterView",
    "EmbeddedBroker",
    "Java",
    "OwnedProcess",
    "PortLease",
    "cluster_view",
    "find_runtime",
    "maven_program",
    "remember_standing_folder",
    "run_download",
    "standing_bootstrap_servers",
    "standing_folder",
    "system_java",
    "wheel_java",
]
