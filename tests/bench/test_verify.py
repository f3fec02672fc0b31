"""--verify against echo servers that get one thing wrong: it is found, called by its name, and nothing else is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from support.echoes import Misbehaving, Twist, load

SIZE = 60
KINDS = ("lost", "repeated", "reordered", "corrupted", "misdelivered", "surplus")


def drop(number: int, message: bytes) -> bytes:
    return b"" if number == 5 else message


def repeat(number: int, message: bytes) -> bytes:
    return message * 2 if number == 5 else message


def flip_bit(number: int, message: bytes) -> bytes:
    return message[:33] + bytes([message[33] ^ 4]) + message[34:] if number == 5 else message


def drop_byte(number: int, message: bytes) -> bytes:
    return message[:20] + message[21:] if number == 5 else message


def insert_byte(number: int, message: bytes) -> bytes:
    return message[:20] + b"x" + message[20:] if number == 5 else message


def swap() -> Twist:
    held = b""

    def twist(number: int, message: bytes) -> bytes:
        nonlocal held
        if number == 5:
            held = message
            return b""
        return message + held if number == 6 else message

    return twist


def replay_old() -> Twist:
    first = b""

    def twist(number: int, message: bytes) -> bytes:
        nonlocal first
        first = first or message
        return message + first if number == 5 else message

    return twist


def run(twist: Twist, *options: str) -> tuple[int, dict[str, Any]]:
    with Misbehaving(SIZE, twist) as address:
        return load(address, "--verify", "--size", str(SIZE), "--duration", "0.2", *options)


def wrong(result: dict[str, Any]) -> dict[str, int]:
    return {kind: result["messages"][kind] for kind in KINDS if result["messages"][kind]}


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: drop, {"lost": 1}),
        (lambda: repeat, {"repeated": 1}),
        (swap, {"reordered": 1}),
        (replay_old, {"repeated": 1}),
        (lambda: flip_bit, {"corrupted": 1}),
        (lambda: drop_byte, {"corrupted": 1}),
        (lambda: insert_byte, {"corrupted": 1}),
    ],
    ids=["drop", "repeat", "swap", "replay", "flip bit", "drop byte", "insert byte"],
)
def test_one_mistake_is_one_finding(make: Callable[[], Twist], expected: dict[str, int]) -> None:
    code, result = run(make(), "--pipeline", "4")
    assert code == 1
    assert wrong(result) == expected


def test_the_sound_server_of_this_test_is_found_sound() -> None:
    code, result = run(lambda number, message: message, "--pipeline", "4", "--connections", "2")
    assert code == 0
    assert wrong(result) == {}
    assert result["messages"]["answered"] > 8


def test_a_loss_names_message_and_connection() -> None:
    _, result = run(drop)
    (incident,) = result["incidents"]
    assert incident["connection"] == 0
    assert incident["local"].startswith("127.0.0.1:")
    assert incident["text"].startswith("lost: message 5 ")


def test_corruption_names_the_byte() -> None:
    _, result = run(flip_bit)
    assert result["incidents"][0]["text"].startswith("corrupted: message 5, byte 33 is 0x")


def test_answers_of_another_connection_are_misdelivered() -> None:
    first: list[bytes] = []

    def cross(number: int, message: bytes) -> bytes:
        """The second connection's message 3 is answered with the first's message 3."""
        if number != 3:
            return message
        first.append(message)
        return first[0]

    code, result = run(cross, "--connections", "2")
    assert code == 1
    assert wrong(result) == {"misdelivered": 1, "lost": 1}


def test_bytes_that_nobody_asked_for_are_surplus_even_without_verify() -> None:
    with Misbehaving(SIZE, repeat) as address:
        code, result = load(address, "--size", str(SIZE), "--duration", "0.2")
    assert code == 0
    assert result["messages"]["surplus"] == 1
