"""An interface that was removed and is back is set up in the background, as the server serves meanwhile.

That takes as long as its driver takes, others that have the kernel's lock of network settings, and the kernel, which
pins all frames in memory; the loop that answers for the server waits for none of them. Shards ask again until it is
done. Nothing of what is being set up is used or closed by anybody else before."""

from __future__ import annotations

import logging
from collections.abc import Callable
from threading import Lock

from usnet_framework.errors import StartupError
from usnet_framework.shards.background import Background, Outcome

log = logging.getLogger("usnet.supervisor")

AGAIN_S = 0.1
CLOSE_S = 2.0
"""What a set-up that is under way gets to be over when the server ends."""


class NotYet(StartupError):
    """It is under way: ask again in AGAIN_S."""


class Joining:
    """`set_up` is called in a thread, one at a time. Everything else is called in the loop that runs."""

    def __init__(self, set_up: Callable[[], object]) -> None:
        self._set_up = set_up
        self._background = Background("usnet-join", self._work)
        self._turn = Lock()
        self._is_closed = False
        self._outcome: Outcome | None = None  # nobody has heard of it

    @property
    def is_under_way(self) -> bool:
        return self._outcome is not None and not self._outcome.done()

    def finish(self, name: str) -> None:
        """Begin, unless it is done or under way. NotYet: the latter. What it raised. StartupError: there is no thread
        for it."""
        if self._outcome is None:
            self._outcome = self._background.ask()
        if not self._outcome.done():
            raise NotYet(f"--interface {name}: is being joined again")
        outcome, self._outcome = self._outcome, None
        error = outcome.result()
        if isinstance(error, RuntimeError):
            raise StartupError(f"--interface {name}: {error}") from error
        if error is not None:
            raise error

    def forget(self) -> None:
        """What was done, if it was, was for an interface that is gone again. Not while it is under way."""
        self._outcome = None

    def close(self, name: str) -> bool:
        """None begins any more. Whether none is under way; one that hangs is left alone, which is logged."""
        self._is_closed = True
        is_over = self._turn.acquire(timeout=CLOSE_S)
        if is_over:
            self._turn.release()
        else:
            log.error("interface %s is being joined still, and left as it is; usnet-ctl doctor --fix", name)
        return is_over

    def _work(self) -> None:
        with self._turn:
            if not self._is_closed:
                self._set_up()
