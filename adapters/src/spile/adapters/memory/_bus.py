"""The event bus in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from spile.adapters.bus import BusAdapter, EventBus
from spile.adapters.delivery import ReceivedMessage
from spile.adapters.memory._cluster import MemoryCluster
from spile.adapters.subscribing import Retries, SubscriptionObserver, SubscriptionOptions
from spile.spi import ProtocolEventBusInMemory
from spile.topics import Catalogue, default_catalogue


class MemoryEventBus(EventBus, ProtocolEventBusInMemory):
    """
    A bus with partitions, groups, offsets and dead letters that lives in this process.

    Keeps the promises of the bus on Kafka except durability: the log ends with the process.

    Args:
        cluster: Shared by the buses that are to see each other; by default one of its own, with
            the catalogue's topics.
        environment: Completes logical names.
        group: Node group of this bus.
        service: Named as the source in headers that are made here; the group by default.
        catalogue: Topics and their event types; the one that ships by default.
        retries: Of failed messages, unless a subscription says otherwise.
        options: Limits and times of subscriptions.
        observe: Makes the observer of a group's subscription.
    """

    def __init__(
        self,
        cluster: MemoryCluster | None = None,
        *,
        environment: str = "dev",
        group: str = "local",
        service: str | None = None,
        catalogue: Catalogue | None = None,
        retries: Retries | None = None,
        options: SubscriptionOptions | None = None,
        observe: Callable[[str], SubscriptionObserver] | None = None,
    ) -> None:
        catalogue = catalogue or default_catalogue()
        self._cluster = cluster or MemoryCluster.of_catalogue(catalogue, environment)
        adapter = BusAdapter(
            self._cluster.sender(),
            self._cluster.source,
            environment=environment,
            group=group,
            service=service,
            catalogue=catalogue,
            retries=retries,
            options=options,
            observe=observe,
            reader_factory=self._cluster.reader,
        )
        super().__init__(adapter)

    @property
    def cluster(self) -> MemoryCluster:
        """The cluster behind the bus."""
        return self._cluster

    async def get_event_history(self) -> Sequence[ReceivedMessage]:
        """Return all messages of the cluster in the order of their publishing."""
        return [ReceivedMessage(record) for record in self._cluster.history]

    async def clear_event_history(self) -> None:
        """Forget the history; what subscribers have yet to read stays."""
        self._cluster.clear_history()

    async def get_subscriber_count(self) -> int:
        """Return the number of live subscriptions of this bus."""
        return len(self.adapter.subscriptions)
