"""How long to wait before something that keeps failing is tried again."""

from __future__ import annotations

FIRST_DELAY_S = 0.1
DELAY_MAX_S = 10.0


class Backoff:
    """The first `free` failures in a row cost nothing, the following ones 0.1 s, 0.2 s … up to 10 s."""

    def __init__(self, free: int) -> None:
        self._free = free
        self.failures = 0

    def failed(self) -> float:
        """Count a failure; the seconds to wait."""
        self.failures += 1
        late = self.failures - self._free
        return 0.0 if late <= 0 else min(DELAY_MAX_S, FIRST_DELAY_S * 2.0 ** min(late - 1, 16))

    def succeeded(self) -> None:
        self.failures = 0
