"""What a shard's engine is told of its listeners, and when: requests are recorded, the test confirms them."""

from __future__ import annotations

import errno
import socket

import pytest

from usnet_framework.shards.enginewords import Kind
from usnet_framework.shards.handover import Handover
from usnet_framework.shards.listeners import LISTENERS_MAX, Listener, Listeners, parse_bind


def listener(port: int) -> Listener:
    return Listener(parse_bind(f"tcp://h:{port}"), f"tcp://h:{port}")


class Script:
    """Two listeners at the start; `asked` is emptied by looking."""

    def __init__(self) -> None:
        self.listeners = Listeners([listener(1), listener(2)])
        self._asked: list[tuple[str, int, str]] = []
        self.handover = Handover(self.listeners, self._ask)

    def _ask(self, kind: Kind, number: int, one: Listener) -> None:
        self._asked.append((kind.name, number, one.address))

    def asked(self) -> list[tuple[str, int, str]]:
        asked, self._asked = self._asked, []
        return asked

    def add(self, port: int) -> Listener:
        self.listeners.open.append(listener(port))
        self.handover.follow()
        return self.listeners.open[-1]

    def remove(self, position: int) -> None:
        self.listeners.remove([self.listeners.open[position]])
        self.handover.follow()


@pytest.fixture
def script() -> Script:
    script = Script()
    script.handover.begin()
    return script


def test_an_engine_begins_with_what_there_is(script: Script) -> None:
    assert script.asked() == []
    assert script.handover.settled


def test_it_is_told_what_comes(script: Script) -> None:
    script.add(3)
    assert script.asked() == [("LISTEN", 2, "tcp://h:3")]
    assert not script.handover.settled
    script.handover.listen_confirmed(2, 0)
    assert script.handover.settled


def test_a_number_is_free_once_it_is_confirmed(script: Script) -> None:
    script.remove(0)
    assert script.asked() == [("UNLISTEN", 0, "tcp://h:1")]
    script.add(3)
    assert script.asked() == [("LISTEN", 2, "tcp://h:3")]
    script.handover.unlisten_confirmed(0)
    script.add(4)
    assert script.asked() == [("LISTEN", 0, "tcp://h:4")]


def test_one_that_finds_no_number_free_gets_the_next(script: Script) -> None:
    for port in range(3, LISTENERS_MAX + 1):
        script.add(port)
    script.remove(0)
    script.asked()
    script.add(100)
    assert script.asked() == []
    assert not script.handover.settled
    script.handover.unlisten_confirmed(0)
    assert script.asked() == [("LISTEN", 0, "tcp://h:100")]


def test_the_next_engine_is_told_what_was_not_confirmed(script: Script) -> None:
    script.add(3)
    script.add(4)
    script.handover.listen_confirmed(3, 0)
    script.remove(0)
    script.asked()
    script.handover.follow(again=True)
    assert script.asked() == [("UNLISTEN", 0, "tcp://h:1"), ("LISTEN", 2, "tcp://h:3")]


def test_what_came_and_went_before_it_was_confirmed_is_taken_back(script: Script) -> None:
    script.add(3)
    script.remove(2)
    assert script.asked() == [("LISTEN", 2, "tcp://h:3"), ("UNLISTEN", 2, "tcp://h:3")]
    script.handover.listen_confirmed(2, 0)
    assert not script.handover.settled
    script.handover.unlisten_confirmed(2)
    assert script.handover.settled


def test_a_refusal_is_told_and_not_asked_again(script: Script) -> None:
    added = script.add(3)
    script.handover.listen_confirmed(2, errno.ENOSPC)
    assert script.handover.settled
    assert script.handover.refusal(added) == errno.ENOSPC
    script.asked()
    script.handover.follow(again=True)
    assert script.asked() == []


def test_what_nobody_asked_for_changes_nothing(script: Script) -> None:
    script.handover.listen_confirmed(0, errno.EINVAL)
    script.handover.unlisten_confirmed(1)
    script.handover.listen_confirmed(63, 0)
    script.handover.follow(again=True)
    assert script.asked() == []
    assert script.handover.settled


def test_without_an_engine_nobody_is_asked(script: Script) -> None:
    script.handover.end()
    script.add(3)
    assert script.asked() == []
    assert script.handover.settled
    assert [one.address for one in script.handover.begin()] == ["tcp://h:1", "tcp://h:2", "tcp://h:3"]
    assert script.handover.settled


def test_a_shard_that_stands_back_leaves_shared_sockets_to_others() -> None:
    script = Script()
    with socket.socket() as one, socket.socket() as other:
        script.listeners.open = [
            Listener(parse_bind("unix:a"), "unix:a", [one, one]),
            Listener(parse_bind("tcp://h:1"), "tcp://h:1", [one, other]),
        ]
        script.handover.begin()
        script.handover.stand_back(True)
        assert script.asked() == [("UNLISTEN", 0, "unix:a")]
        script.handover.stand_back(False)
        script.handover.follow(again=True)
        assert script.asked() == [("UNLISTEN", 0, "unix:a")], "it was not confirmed, and the engine has died"
        script.handover.unlisten_confirmed(0)
        assert script.asked() == [("LISTEN", 0, "unix:a")]
        script.handover.listen_confirmed(0, 0)
        assert script.handover.settled
