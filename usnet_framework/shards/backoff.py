"""How long to wait before something that keeps failing is tried again, and when it fails too often."""

from __future__ import annotations

from collections import deque

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


class Intensity:
    """More than `most` failures within `within_s` seconds are too many, as a supervisor of Erlang's OTP counts them."""

    def __init__(self, most: int, within_s: float) -> None:
        self._within_s = within_s
        self._failures: deque[float] = deque(maxlen=most + 1)

    def failed(self, now_s: float) -> bool:
        """Count a failure; whether there are too many."""
        self._failures.append(now_s)
        full = len(self._failures) == self._failures.maxlen
        return full and now_s - self._failures[0] <= self._within_s

    def succeeded(self) -> None:
        self._failures.clear()
