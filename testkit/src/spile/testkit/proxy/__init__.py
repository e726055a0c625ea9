"""
A TCP proxy that makes a network bad on purpose: slow, narrow, torn, one-way or silent.

Put one in front of each broker, advertise its address, and change the conditions while clients
work. It knows nothing of Kafka.
"""

from spile.testkit.proxy._conditions import Conditions, Direction
from spile.testkit.proxy._proxy import TcpProxy

__all__ = ["Conditions", "Direction", "TcpProxy"]
