"""All tests of the suite, to be imported with `*` into a test module that has `bus_under_test`."""

# ruff: noqa: F403 - what is imported is whatever the suite has
# pyright: reportWildcardImportFromLibrary=false
from spile.testkit.conformance.test_batches import *
from spile.testkit.conformance.test_breaker import *
from spile.testkit.conformance.test_handling import *
from spile.testkit.conformance.test_messages import *
from spile.testkit.conformance.test_publisher import *
from spile.testkit.conformance.test_shape import *
