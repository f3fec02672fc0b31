"""A server that stalls must not stall its own measurement (coordinated omission)."""

from __future__ import annotations

import time

from support.echoes import Misbehaving, load

STALL_S = 0.3


def test_a_single_stall_shows_in_the_99th_percentile_of_rate_mode() -> None:
    """500 messages in a second; the server sleeps for 300 ms once. Some 150 messages were wanted in that time, and each
    counts from when it was wanted: 30 % wait longer than nothing, the 99th percentile nearly the whole stall."""

    def stall_once(number: int, message: bytes) -> bytes:
        if number == 100:
            time.sleep(STALL_S)
        return message

    with Misbehaving(60, stall_once) as address:
        code, result = load(address, "--mode", "rate", "--rate", "500", "--duration", "1", "--verify", "--drain", "20")
    assert code == 0, result["incidents"]
    assert result["latency_ns"]["count"] >= 499
    assert result["latency_ns"]["p99"] > 0.8 * STALL_S * 1e9
    assert result["latency_ns"]["p90"] > 0.3 * STALL_S * 1e9


def test_the_window_does_not_hide_the_wait() -> None:
    """With one message in flight at a time the others wait in the timetable, and that counts too."""

    def stall_once(number: int, message: bytes) -> bytes:
        if number == 50:
            time.sleep(STALL_S)
        return message

    with Misbehaving(60, stall_once) as address:
        options = ["--mode", "rate", "--rate", "500", "--duration", "1", "--pipeline", "1", "--drain", "20"]
        _, result = load(address, *options)
    assert result["latency_ns"]["p99"] > 0.8 * STALL_S * 1e9


def test_messages_that_were_never_answered_are_told() -> None:
    def silent_after_ten(number: int, message: bytes) -> bytes:
        return message if number < 10 else b""

    with Misbehaving(60, silent_after_ten) as address:
        options = ["--mode", "rate", "--rate", "200", "--duration", "0.5", "--pipeline", "8"]
        _, result = load(address, *options)
    assert result["messages"]["answered"] == 10
    assert result["messages"]["unanswered"] >= 89, "one more for every 5 ms that the end came late"
