"""The one file that may hold concrete classes."""


class ClockError(Exception):
    """Raised when the clock stands."""

    retriable = True

    def __init__(self, message: str, *, since_s: float = 0.0) -> None:
        super().__init__(message)
        self.since_s = since_s
