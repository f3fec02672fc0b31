"""The text of segments: what it may say, and that what is told of a segment can be read again."""

from __future__ import annotations

import pytest

from usnet_framework.testing import language
from usnet_framework.testing.language import ANY
from usnet_framework.testing.segments import Options, Tcp


def test_a_syn() -> None:
    line = language.parse("S 0:0(0) win 65535 <mss 1460,sackOK,ts 100 ecr 0,nop,wscale 7>")
    assert (line.flags, line.first, line.length, line.ack, line.win) == ("S", 0, 0, None, 65535)
    assert (line.mss, line.sack_ok, line.ts, line.ecr, line.wscale) == (1460, True, 100, 0, 7)


@pytest.mark.parametrize("numbers", ["1:101(100)", "1:101", "1(100)", "1:1(100)"])
def test_ways_to_write_numbers(numbers: str) -> None:
    if numbers == "1:1(100)":
        with pytest.raises(ValueError, match="does not fit"):
            language.parse(f". {numbers} ack 1")
        return
    line = language.parse(f". {numbers} ack 1")
    assert (line.first, line.past) == (1, 101)


def test_what_is_left_out_is_unknown() -> None:
    line = language.parse(". ack 1")
    assert (line.first, line.past, line.win, line.has_options, line.ts) == (None, None, None, False, None)


def test_options_without_a_number_may_have_any() -> None:
    line = language.parse("S. 0:0(0) ack 1 <mss,wscale,ts>")
    assert (line.mss, line.wscale, line.ts, line.ecr) == (ANY, ANY, ANY, None)


def test_blocks_of_sack() -> None:
    assert language.parse(". ack 1 <sack 201:301 401:501>").sack == [(201, 301), (401, 501)]


def test_the_order_of_flags_does_not_matter() -> None:
    assert language.parse(".PF 1:2 ack 1").flags == language.parse("FP. 1:2 ack 1").flags


def test_no_flags_at_all() -> None:
    assert language.parse("- 1:2(1)").flags == ""


@pytest.mark.parametrize(
    "text", ["", "X 0:0(0)", "S 0:0(0) <mss 1460", ". ack", ". 1:2(3)", ". ack 1 [cc]", ". ack 1 <msss 3>"]
)
def test_what_is_no_segment(text: str) -> None:
    with pytest.raises(ValueError, match=r"no segment|does not fit|no option"):
        language.parse(text)


def test_what_is_told_can_be_read() -> None:
    options = Options(mss=1400, sack_permitted=True, timestamps=(5, 6), wscale=3, sack=((7, 8), (10, 12)))
    tcp = Tcp(1, 2, flags="SPU.", window=1000, urgent=9, payload=b"abc")
    text = language.describe(tcp, seq=20, ack=30, options=options, ecn=3, seg=100)
    assert text == (
        "SPU. 20:23(3) ack 30 win 1000 urg 9 <mss 1400,sackOK,ts 5 ecr 6,wscale 3,sack 7:8 10:12> [ce] seg 100"
    )
    line = language.parse(text)
    assert (line.flags, line.first, line.length, line.ack, line.win, line.urg) == ("SPU.", 20, 3, 30, 1000, 9)
    assert (line.ecn, line.seg, line.sack) == ("ce", 100, [(7, 8), (10, 12)])
