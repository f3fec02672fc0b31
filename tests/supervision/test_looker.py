"""Asking an engine what it knows: answers, silence, deaths, and nonsense of an engine that shares its process."""

from __future__ import annotations

import asyncio
import os
import struct
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from usnet_framework._native import LOOK_ENTRIES, LOOK_FIELDS, LOOK_KINDS
from usnet_framework.shards import looker, lookwords
from usnet_framework.shards.enginewords import MESSAGE, Kind, Message
from usnet_framework.shards.looker import END, Looker, NoAnswer

WORDS = len(LOOK_FIELDS["conns"])


class Engine:
    """Answers as it is told: `answers` is called with the question and its file."""

    def __init__(self, answers: Callable[[Engine, Message, int], None]) -> None:
        self.looker = Looker(self._ask)
        self.asked: list[Message] = []
        self.takes = True  # what it is asked; or else its socket is full
        self._answers = answers

    def _ask(self, packet: bytes, fds: Sequence[int]) -> bool:
        question = Message.read(packet)
        assert question is not None
        assert question.kind is Kind.LOOK
        self.asked.append(question)
        self._answers(self, question, os.dup(fds[0]))
        return self.takes

    def say(self, question: Message, count: int, error: int = 0, position: int = END) -> None:
        said = MESSAGE.pack(Kind.LOOK, question.port, question.serial, count, error, position)
        message = Message.read(said)
        assert message is not None
        message.tell(self)  # type: ignore[arg-type]

    def look_answered(self, *said: int) -> None:
        self.looker.answered(*said)


def entries(file: int, *rows: Sequence[int]) -> None:
    """Written where the engine would: behind what it has read."""
    for row in rows:
        os.write(file, struct.pack(f"<{len(row)}Q", *row))
    os.close(file)


def echo(engine: Engine, question: Message, file: int) -> None:
    """All that is asked for is alive."""
    ids = struct.unpack(f"<{(length := os.fstat(file).st_size) // 8}Q", os.read(file, length))
    entries(file, *((id, *[7] * (WORDS - 1)) for id in ids))
    engine.say(question, len(ids))


def silent(engine: Engine, question: Message, file: int) -> None:
    os.close(file)


def ask(engine: Engine, scenario: Callable[[Looker], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        return await scenario(engine.looker)

    return asyncio.run(run())


async def whole(table: Any) -> list[Any]:
    return [entry async for part in table for entry in part]


def test_entries_come_by_the_id_of_their_connection() -> None:
    engine = Engine(echo)
    found = ask(engine, lambda looker: looker.connections([5, 2**64 - 2]))
    assert found.keys() == {5, 2**64 - 2}
    assert found[5]["cwnd"] == 7
    assert engine.asked[0].port == LOOK_KINDS["conns"]


def test_a_table_is_asked_for_slice_by_slice() -> None:
    def answers(engine: Engine, question: Message, file: int) -> None:
        entries(file, [question.first] * len(LOOK_FIELDS["routes"]))
        engine.say(question, 1, position=question.first + 10 if question.first < 20 else END)

    found = ask(Engine(answers), lambda looker: whole(looker.table("routes")))
    assert [entry["prefix"] for entry in found] == [0, 10, 20]


def test_a_table_without_end_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    def answers(engine: Engine, question: Message, file: int) -> None:
        os.close(file)
        engine.say(question, 0, position=1)

    monkeypatch.setattr(looker, "SLICES_MAX", 5)
    engine = Engine(answers)
    assert ask(engine, lambda looker: whole(looker.table("neigh"))) == []
    assert len(engine.asked) == 5


def test_who_does_not_answer_is_not_asked_again_before_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looker, "ANSWER_S", 0.05)
    engine = Engine(silent)

    async def scenario(its: Looker) -> Any:
        for _ in range(2):
            with pytest.raises(NoAnswer, match="does not answer"):
                await its.connections([1])
        assert len(engine.asked) == 1
        engine._answers = echo
        engine.say(engine.asked[0], 0)  # it goes on, and nobody waits for this any more
        return await its.connections([2])

    assert ask(engine, scenario).keys() == {2}


def test_who_never_got_the_question_owes_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looker, "ANSWER_S", 0.05)
    engine = Engine(silent)
    engine.takes = False

    async def scenario(its: Looker) -> Any:
        with pytest.raises(NoAnswer, match="does not answer"):
            await its.connections([1])
        engine._answers, engine.takes = echo, True
        return await its.connections([2])

    assert ask(engine, scenario).keys() == {2}


def test_the_answer_to_an_earlier_question_is_none_to_this_one() -> None:
    def answers(engine: Engine, question: Message, file: int) -> None:
        entries(file, (1, *[7] * (WORDS - 1)))
        engine.looker.answered(question.serial - 1, 0, 0, END)
        engine.say(question, 1)

    assert ask(Engine(answers), lambda looker: looker.connections([])).keys() == {1}


def test_an_engine_that_comes_after_a_death_is_asked() -> None:
    def answers(engine: Engine, question: Message, file: int) -> None:
        os.close(file)
        engine._answers = echo
        asyncio.get_running_loop().call_soon(engine.looker.again)

    engine = Engine(answers)
    assert ask(engine, lambda looker: looker.connections([3])).keys() == {3}
    assert len({question.serial for question in engine.asked}) == 2


def test_a_question_over_which_engines_die_is_given_up() -> None:
    def answers(engine: Engine, question: Message, file: int) -> None:
        os.close(file)
        asyncio.get_running_loop().call_soon(engine.looker.again)

    with pytest.raises(NoAnswer, match="dies over the question"):
        ask(Engine(answers), lambda looker: looker.connections([3]))


@pytest.mark.parametrize(
    ("error", "text"), [(95, "Operation not supported"), (4096, "Protocol error"), (2**64 - 1, "Protocol error")]
)
def test_a_refusal_is_told(error: int, text: str) -> None:
    def answers(engine: Engine, question: Message, file: int) -> None:
        os.close(file)
        engine.say(question, 0, error=error)

    with pytest.raises(NoAnswer, match=text):
        ask(Engine(answers), lambda looker: whole(looker.table("routes")))


def test_a_supervisor_without_descriptors_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str, flags: int) -> int:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(looker.os, "memfd_create", refuse)
    with pytest.raises(NoAnswer, match="no file for its answer: Too many open files"):
        ask(Engine(echo), lambda looker: looker.connections([3]))


@pytest.mark.parametrize("count", [1, 2**32 - 1])
def test_no_more_is_read_than_is_there(count: int) -> None:
    """A worker inline may say what it likes, and write what it likes."""

    def answers(engine: Engine, question: Message, file: int) -> None:
        os.write(file, bytes(8 * WORDS * (LOOK_ENTRIES + 1) + 5) if count > 1 else bytes(5))
        os.close(file)
        engine.say(question, count)

    found = ask(Engine(answers), lambda looker: whole(looker.table("neigh")))
    assert len(found) == (0 if count == 1 else LOOK_ENTRIES)


# What the words mean.


def words(kind: str, **given: int) -> dict[str, int]:
    return dict.fromkeys(LOOK_FIELDS[kind], 0) | given


def ip(text: bytes) -> tuple[int, int]:
    return struct.unpack("<QQ", text)


V4 = ip(bytes(10) + b"\xff\xff" + bytes([10, 0, 0, 9]))


def test_a_neighbour() -> None:
    mac = int.from_bytes(bytes.fromhex("020000000009"), "little")
    entry = words("neigh", ip_first=V4[0], ip_second=V4[1], mac=mac, state=2, is_router=1, used_ns=5)
    assert lookwords.neighbour(entry) == {
        "address": "10.0.0.9", "mac": "02:00:00:00:00:09", "state": "reachable", "router": True, "probes": 0,
        "queued": 0, "confirmed_ns": None, "used_ns": 5,
    }  # fmt: skip
    unknown = lookwords.neighbour(words("neigh", mac=2**64 - 1))
    assert (unknown["address"], unknown["mac"]) == (None, None)


def test_a_route() -> None:
    entry = words("routes", network_first=V4[0], network_second=V4[1], prefix=8)
    assert lookwords.route(entry) == {
        "network": "10.0.0.0/8", "gateway": None, "origin": "link", "elsewhere": False, "expires_ns": None,
    }  # fmt: skip
    by = lookwords.route(words("routes", gateway_first=V4[0], gateway_second=V4[1], origin=2))
    assert (by["network"], by["gateway"], by["origin"]) == ("::/0", "10.0.0.9", "advertised")
    with pytest.raises(ValueError, match="200"):
        lookwords.route(words("routes", prefix=200))


def test_a_connection() -> None:
    text = ip(b"cubic".ljust(16, b"\0"))
    entry = words("conns", tcp_state=1 << 3, congestion_first=text[0], phase=4, agreed=2**64 - 1,
                  ssthresh=2**64 - 1, cwnd=14480, unread=3)  # fmt: skip
    seen = lookwords.connection(entry)
    assert (seen["tcp"]["state"], seen["tcp"]["congestion"], seen["tcp"]["phase"]) == ("established", "cubic", "loss")
    assert (seen["tcp"]["ssthresh"], seen["tcp"]["cwnd"], seen["queues"]["unread"]) == (None, 14480, 3)
    assert seen["tcp"]["agreed"] == ["window_scaling", "timestamps", "sack", "ecn"]
    assert lookwords.connection(words("conns"))["tcp"] is None
