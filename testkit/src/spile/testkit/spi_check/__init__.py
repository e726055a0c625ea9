"""
Checks that a service provider interface holds contracts and nothing else: rules SPI001 to SPI016.

Reads source text with the standard library alone and imports nothing of what it checks, so it can
judge a package that does not even compile.
"""

from spile.testkit.spi_check._check import check_paths, default_path, staged_paths
from spile.testkit.spi_check._findings import RULES, CheckInputError, CheckReport, Finding, Rule

__all__ = [
    "RULES",
    "CheckInputError",
    "CheckReport",
    "Finding",
    "Rule",
    "check_paths",
    "default_path",
    "staged_paths",
]
