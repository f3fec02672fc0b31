"""An address that is bound while the server runs, and cannot be: told, and nothing of it is left."""

from __future__ import annotations

import asyncio
import errno
import re
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.limits import limit_of_descriptors

from usnet_framework.errors import StartupError
from usnet_framework.shards.binder import Binder, BinderSetup
from usnet_framework.shards.changes import Changes
from usnet_framework.shards.keepalive import OFF
from usnet_framework.shards.limits import SPARE, check_spare
from usnet_framework.shards.listeners import LISTENERS_MAX, Bind, Listener, Listeners

ENDPOINT = ("10.0.0.1", 80)


class Stack:
    """Serves what it is asked to, at shared addresses."""

    def __init__(self) -> None:
        self.sharing = self
        self.served: list[tuple[str, int]] = []

    async def open_listener(self, bind: Bind, taken: Sequence[tuple[str, int]]) -> Listener:
        self.served.append(ENDPOINT)
        return Listener(bind, "tcp://10.0.0.1:80", endpoint=ENDPOINT)

    def ending(self, endpoint: tuple[str, int]) -> set[tuple[str, int]]:
        return {endpoint}

    def unserve(self, endpoint: tuple[str, int]) -> None:
        self.served.remove(endpoint)


def refused(refusal: int) -> str:
    """What is said when an engine refuses with this; nothing may be left."""
    handover = SimpleNamespace(follow=lambda: None, settled=True, refusal=lambda _: refusal)
    shards: Any = [SimpleNamespace(handover=handover, segment=None)]
    stack: Any = Stack()
    listeners = Listeners()

    async def guard(paths: Sequence[Path]) -> None: ...

    async def bind() -> str:
        binder = Binder(BinderSetup(listeners, shards, Changes(), stack, 1, OFF, guard))
        with pytest.raises(StartupError) as refused:
            await binder.bind("tcp://10.0.0.1:80")
        while stack.served:
            await asyncio.sleep(0)
        return str(refused.value)

    said = asyncio.run(bind())
    assert listeners.open == []
    return said


@pytest.mark.parametrize(
    ("refusal", "text"),
    [
        (errno.ENOSPC, f"it has {LISTENERS_MAX} listeners; unbind one"),
        (errno.EADDRNOTAVAIL, "the address has just been taken from the interface; name another one"),
        (errno.EMFILE, "Too many open files"),
    ],
)
def test_what_an_engine_refuses_is_told_and_given_back(refusal: int, text: str) -> None:
    assert refused(refusal) == f"tcp://10.0.0.1:80: the network process refused it: {text}"


def test_descriptors_are_left_to_replace_what_dies_with() -> None:
    with limit_of_descriptors(SPARE + 20):
        check_spare("tcp://10.0.0.1:80")
    with limit_of_descriptors(SPARE // 2):
        assert re.match(r"tcp://10.0.0.1:80: \d+ of \d+ descriptors would be left, too few to replace", refused(0))
