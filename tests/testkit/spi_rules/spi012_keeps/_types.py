from typing import TypeAlias

Seconds: TypeAlias = float
