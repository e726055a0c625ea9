"""Which seeds to run, from the environment."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class SimulationSettings(BaseSettings):
    """
    Which seeds to run.

    Attributes:
        seed: `SPILE_SIM_SEED`: only this one, to look at a failure.
        seeds: `SPILE_SIM_SEEDS`: how many, 500 by default; a nightly run takes 20,000.
    """

    model_config = SettingsConfigDict(env_prefix="SPILE_SIM_", extra="ignore", frozen=True)

    seed: int | None = None
    seeds: int = Field(default=500, ge=1)

    def share(self, part: int = 0, parts: int = 1) -> list[int]:
        """Return the seeds of one of several scenarios that share them; all by default."""
        return list(range(part, self.seeds, parts)) if self.seed is None else [self.seed]
