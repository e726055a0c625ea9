"""Which catalogue a command works with."""

from __future__ import annotations

import importlib
from collections.abc import Sequence

from pydantic_settings import BaseSettings, SettingsConfigDict

from spile.adapters.kafka import register_settings
from spile.spi import ConfigurationError
from spile.topics import Catalogue, default_catalogue


class CatalogueSettings(BaseSettings):
    """
    Where the catalogue is.

    Attributes:
        catalogue: `module:attribute` of a `Catalogue`; the default catalogue when not set.
        environment: First segment of full topic names.
    """

    model_config = SettingsConfigDict(env_prefix="SPILE_", frozen=True)

    catalogue: str | None = None
    environment: str = "dev"


register_settings(CatalogueSettings)


def chosen_catalogue(services: Sequence[str] = ()) -> Catalogue:
    """
    Return the catalogue of SPILE_CATALOGUE, else the default one.

    Args:
        services: Services to fill in the templates for, beside those that the catalogue has.

    Raises:
        ConfigurationError: It names nothing that can be imported, or no catalogue.
        InvalidTopicError: A service is no segment of a topic name.
    """
    reference = CatalogueSettings().catalogue
    if not reference:
        return default_catalogue(services) if services else default_catalogue()
    module, colon, attribute = reference.partition(":")
    if not colon or not module or not attribute:
        raise _mistake(f"{reference!r} is not module:attribute")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as exc:
        raise _mistake(f"{reference!r} cannot be imported ({exc})") from exc
    if not isinstance(found, Catalogue):
        raise _mistake(f"{reference!r} is a {type(found).__name__}, not a Catalogue")
    return found.with_services(*services)


def _mistake(text: str) -> ConfigurationError:
    return ConfigurationError(f"SPILE_CATALOGUE: {text}", setting="SPILE_CATALOGUE")
