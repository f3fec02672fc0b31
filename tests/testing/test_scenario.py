"""The language of scenarios fails when it has to, and says what was expected, what came instead, and where."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable

import pytest

from usnet_framework.testing import Host, Link, Scenario, ScenarioFailed, Stack, states
from usnet_framework.testing.fixtures import *  # noqa: F403
from usnet_framework.testing.packets import Icmp
from usnet_framework.testing.peer import pattern


def failure(of: Callable[[], object], host: Host) -> str:
    """What a step says that fails; the host may go on."""
    with pytest.raises(ScenarioFailed) as raised:
        of()
    host.failed = False
    host.sent.clear()
    return str(raised.value)


def here() -> int:
    frame = inspect.currentframe()
    assert frame is not None
    assert frame.f_back is not None
    return frame.f_back.f_lineno


@pytest.mark.parametrize(
    ("expected", "differs"),
    [
        (". 2:2(0) ack 101", "first sequence number: 2, got 1"),
        ("P. 1:11(10) ack 101", "bytes of payload: 10, got 0"),
        (". 1:1(0) ack 100", "acknowledgment: 100, got 101"),
        (". 1:1(0) ack 101 win 7", "window: 7, got"),
        ("F. 1:1(0) ack 101", "flags: F., got ."),
        (". 1:1(0) ack 101 <sack 1:2>", "sack: ((1, 2),), got none"),
        (". 1:1(0) ack 101 <ts 1 ecr 2>", "timestamps: some expected, got none"),
        (". 1:1(0) ack 101 [ect0]", "ECN bits: 2, got 0"),
        (". 1:1(0) ack 101 seg 5", "payload of the parts: 5, got 0"),
    ],
)
def test_every_difference_is_named(expected: str, differs: str, established: Scenario) -> None:
    established.send("P. 1:101(100) ack 1")
    said = failure(lambda: established.expect(expected, within=0.5), established.host)
    assert f"expected  {expected}" in said
    assert "got       . 1:1(0) ack 101" in said
    assert f"differs   {differs}" in said


def test_a_failure_names_the_line_and_tells_the_conversation(established: Scenario) -> None:
    said = failure(lambda: established.expect(". 1:1(0) ack 5"), established.host)
    line = here() - 1
    assert said.startswith(f"test_scenario.py:{line}: nothing was sent")
    assert re.search(r"0\.0000  in     S 0:0\(0\) win 65535 <mss 1460,sackOK,wscale 7>", said)
    assert re.search(r"0\.0000  out    S\. 0:0\(0\) ack 1", said)
    assert re.search(r"0\.0000  app    accept", said)


def test_pytest_shows_the_test_and_not_the_machinery(established: Scenario) -> None:
    with pytest.raises(ScenarioFailed) as raised:
        established.expect(". 1:1(0) ack 5")
    established.host.failed = False
    assert raised.traceback.filter(raised)[-1].path.name == "test_scenario.py"


@pytest.mark.parametrize("step", ["send", "advance", "expect_nothing", "end"])
def test_what_nobody_expects_fails_at_the_next_step(step: str) -> None:
    def run(host: Host) -> None:
        scenario = states.established(host)
        scenario.write(10)
        if step == "send":
            scenario.send(".")
        elif step == "advance":
            scenario.advance(0.001)
        elif step == "expect_nothing":
            scenario.expect_nothing()

    with pytest.raises(ScenarioFailed, match="not expected"), Host() as host:
        run(host)


def test_another_order_fails(established: Scenario) -> None:
    established.set_option("nodelay", 1)
    established.write(10)
    established.write(10)
    failure(lambda: established.expect("P. 11:21(10) ack 1"), established.host)


def test_too_early_and_too_late_fail(established: Scenario) -> None:
    established.write(10)
    assert "moment: after 1" in failure(lambda: established.expect("P. 1:11(10) ack 1", after=1), established.host)
    assert "nothing was sent" in failure(lambda: established.expect("P. 1:11(10) ack 1", after=0.01), established.host)


def test_time_passes_until_it_comes_and_no_longer(established: Scenario) -> None:
    established.write(10)
    established.expect("P. 1:11(10) ack 1")
    established.expect("P. 1:11(10) ack 1", within=100)
    assert established.host.now_s < 2


def test_wrong_payload_fails(established: Scenario) -> None:
    established.write(b"hello")
    established.peer.written[:] = b"jello"
    established.expect("P. 1:6(5) ack 1")
    said = failure(lambda: established.take(2), established.host)  # the retransmission is held against it
    assert "payload that the application did not write" in said


def test_reading_other_bytes_than_were_sent_fails(established: Scenario) -> None:
    established.send("P. 1:6(5) ack 1", data=b"hello")
    established.take(0.5)
    established.peer.data.clear()
    assert "other bytes than were sent, from 1 on" in failure(established.read, established.host)


def test_data_of_ones_own(established: Scenario) -> None:
    established.send("P. 1:6(5) ack 1", data=b"hello")
    established.take(0.5)
    established.send("P. 6:11(5) ack 1")
    established.take(0.5)
    assert established.read() == b"hello" + pattern(5, 5)
    with pytest.raises(ValueError, match="5 bytes of data for a segment of 4"):
        established.send("P. 11:15(4) ack 1", data=b"hello")


def test_a_text_that_makes_no_sense_is_no_failure_of_the_stack(established: Scenario) -> None:
    with pytest.raises(ValueError, match="no segment"):
        established.send("hello")
    with pytest.raises(ValueError, match="no segment"):
        established.expect("hello")


def test_expecting_a_body_of_another_kind_fails(host: Host) -> None:
    host.listen(80)
    Scenario(host).send(states.SYN)
    assert "expected Icmp, got" in failure(lambda: host.expect_body(Icmp), host)
    assert "nothing was sent" in failure(lambda: host.expect_body(Icmp), host)


def test_data_in_a_row(established: Scenario) -> None:
    established.write(3000)
    established.set_option("nodelay", 1)
    assert established.expect_data(1, 3001, size=1460) == [1460, 1460, 80]
    established.write(10)
    assert "in a row" in failure(lambda: established.expect_data(1, 2), established.host)


def test_two_conversations_are_told_apart(host: Host) -> None:
    one, two = states.established(host), states.established(host)
    one.write(10)
    two.write(20)
    two.expect("P. 1:21(20) ack 1")
    one.expect("P. 1:11(10) ack 1")
    assert any(f"[{two.remote[1]}] P. 1:21(20)" in line for line in host.log)


def test_the_log_of_a_long_conversation_is_cut(established: Scenario) -> None:
    for _ in range(100):
        established.send(".")
    assert "lines before" in failure(lambda: established.expect("."), established.host)


def test_the_same_calls_give_the_same_bytes() -> None:
    def run() -> list[bytes]:
        with Host(seed=5) as host:
            scenario = states.established(host, states.SYN_WITH_TIMESTAMPS)
            scenario.write(5000)
            return [seen.output.data for seen in scenario.take(10)]

    assert run() == run()


# The stack behind it.


def test_a_stack_that_cannot_be() -> None:
    with pytest.raises(ValueError, match=r"\w+ .*\w+"):
        Stack(conn_max=0)
    with pytest.raises(TypeError, match="no option 'nagle'"):
        Stack(nagle=True)


def test_a_stack_that_is_closed() -> None:
    with Stack(conn_max=4) as stack:
        stack.poll(1)
    with pytest.raises(ValueError, match="closed"):
        stack.poll(2)
    stack.close()


def test_a_link_takes_so_many_frames() -> None:
    with Stack(conn_max=4, link=Link(slots=4)) as stack:
        for _ in range(4):
            stack.input(bytes(60))
        with pytest.raises(OSError, match="No buffer space"):
            stack.input(bytes(60))
        stack.poll(1)
        stack.input(bytes(60))


def test_a_frame_may_not_be_longer_than_any() -> None:
    with Stack(conn_max=4) as stack:
        with pytest.raises(OSError, match="Message too long"):
            stack.input(bytes(65_554))
        stack.input(bytes(65_553))


def test_a_stack_at_rest_has_no_deadline_in_the_past() -> None:
    with Stack(conn_max=4) as stack:
        stack.add_address("10.0.0.1/24")
        while stack.poll(10**9):
            pass
        deadline = stack.deadline_ns()
        assert deadline is None or deadline > 10**9


def test_options_are_what_was_asked_for() -> None:
    with Stack(conn_max=4, rcv_limit=12345, ecn=True) as stack:
        assert (stack.options["conn_max"], stack.options["rcv_limit"], stack.options["ecn"]) == (4, 12345, True)


def test_counters_have_names_and_help() -> None:
    with Stack(conn_max=4) as stack:
        for kind in ("tcp", "ip", "drops", "device"):
            assert set(stack.counters(kind).values()) == {0}
        with pytest.raises(KeyError):
            stack.counters("other")
