"""Retries that keep the order of a key: lanes for what waits in retry topics."""

from spile.adapters.subscribing.tiers._batches import TieredBatches
from spile.adapters.subscribing.tiers._lanes import tiered_lanes
from spile.adapters.subscribing.tiers._yards import Yards

__all__ = ["TieredBatches", "Yards", "tiered_lanes"]
