"""What happens to an interface is heard of, and what is said of it does not flood the log."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

import pytest
from support.backends import network_namespace
from support.link import ip
from support.privilege import needs_network_namespaces

from usnet_framework.shards.linknews import HOLD_MAX_S, HOLD_S, SETTLE_S, LinkNews, Told


class Held:
    def __init__(self, due_s: float, callback: Callable[[], None]) -> None:
        self.due_s = due_s
        self.callback = callback
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Interface:
    """What is told of one, in a time of the test's own."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.trouble: str | None = None
        self.timers: list[Held] = []
        self.told = Told(lambda: self.trouble, self._later)

    def _later(self, seconds: float, callback: Callable[[], None]) -> Held:
        self.timers.append(Held(self.now_s + seconds, callback))
        return self.timers[-1]

    def becomes(self, trouble: str | None) -> None:
        self.trouble = trouble
        self.told.look()
        self.pass_time(SETTLE_S)

    def pass_time(self, seconds: float) -> None:
        self.now_s += seconds
        due = [timer for timer in self.timers if timer.due_s <= self.now_s and not timer.cancelled]
        self.timers = [timer for timer in self.timers if timer not in due]
        for timer in due:
            timer.callback()


def test_trouble_is_said_when_it_begins_and_when_it_is_over(caplog: pytest.LogCaptureFixture) -> None:
    one = Interface()
    one.becomes(None)
    one.becomes("it is down")
    assert caplog.messages == ["it is down"]
    one.pass_time(HOLD_S)
    one.becomes(None)
    assert caplog.messages == ["it is down", "no longer: it is down"]


def test_what_is_over_in_a_moment_is_not_said(caplog: pytest.LogCaptureFixture) -> None:
    one = Interface()
    one.trouble = "no carrier"
    one.told.look()
    one.becomes("it is down")
    assert caplog.messages == ["it is down"]


def test_who_looks_for_other_reasons_may_say_what_is_so(caplog: pytest.LogCaptureFixture) -> None:
    one = Interface()
    one.trouble = "it receives on 4 queues"
    for _ in range(2):
        one.told.hear(one.trouble)
    assert caplog.messages == ["it receives on 4 queues"]


def test_what_changes_soon_after_is_said_when_it_has_lasted(caplog: pytest.LogCaptureFixture) -> None:
    one = Interface()
    one.becomes("it is down")
    one.becomes(None)
    one.becomes("it was removed")
    assert caplog.messages == ["it is down"]
    one.pass_time(HOLD_S)
    assert caplog.messages == ["it is down", "it was removed"]


def test_what_comes_and_goes_all_the_time_is_said_a_few_times(caplog: pytest.LogCaptureFixture) -> None:
    """An hour, ten times a second."""
    one = Interface()
    for turn in range(36000):
        one.trouble = "it is down" if turn % 3 else None
        one.told.look()
        one.pass_time(0.1)
    assert 2 <= len(caplog.messages) <= 3600 / HOLD_MAX_S + 10
    one.trouble = None
    for _ in range(3):
        one.pass_time(HOLD_MAX_S)
    assert caplog.messages[-1] == "no longer: it is down", "in the end, what is said is so"
    caplog.clear()
    one.becomes("it is down")
    assert caplog.messages == ["it is down"], "at once again"


def test_nothing_is_said_after_the_end(caplog: pytest.LogCaptureFixture) -> None:
    one = Interface()
    one.becomes("it is down")
    one.told.close()
    one.trouble = None
    one.pass_time(HOLD_S)
    assert caplog.messages == ["it is down"]


async def heard_of(index: int, *change: str) -> None:
    """By somebody who began to listen just before, so that news of an earlier change are none."""
    heard: asyncio.Queue[int | None] = asyncio.Queue()
    news = LinkNews(heard.put_nowait)
    try:
        ip("link", *change)
        async with asyncio.timeout(30):
            while await heard.get() != index:
                pass
    finally:
        news.close()


@needs_network_namespaces
@pytest.mark.parametrize(
    "change",
    [
        ("set", "usv0", "up"),
        ("set", "usv0", "mtu", "1400"),
        ("set", "usv0", "address", "02:00:00:00:00:77"),
        ("set", "usv0", "name", "usv8"),
        ("delete", "usv0"),
    ],
)
def test_what_happens_to_an_interface_is_heard_of(change: tuple[str, ...]) -> None:
    with network_namespace():
        ip("link", "add", "usv0", "type", "veth", "peer", "name", "usv1")
        asyncio.run(heard_of(socket.if_nametoindex("usv0"), *change))
