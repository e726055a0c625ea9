"""
A real schema registry for tests and development, without a container.

    with EmbeddedRegistry() as registry:
        use(registry.url)

It is Apicurio Registry, in memory. The first start on a machine downloads it (160 MB) into the
cache; a start takes about three seconds.
"""

from __future__ import annotations

from spile.testkit.registry._program import (
    APICURIO_VERSION,
    RegistryProgram,
    find_program,
)
from spile.testkit.registry._server import (
    EmbeddedRegistry,
)

__all__ = [
    "APICURIO_VERSION",
    "EmbeddedRegistry",
    "RegistryProgram",
    "find_program",
]
