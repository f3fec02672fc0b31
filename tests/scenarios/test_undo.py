"""What was sent again without need is noticed and undone: after timeouts (RFC 5682, 3522), losses (RFC 2883, 8985)."""

from __future__ import annotations

import pytest
from support.kilo import KILO_PLAIN, KILO_STAMPED, in_flight, warm

from usnet_framework.testing import Host


def test_a_needless_timeout_is_undone_by_timestamps(host: Host) -> None:
    """RFC 3522 Eifel: the acknowledgment echoes a timestamp from before the retransmission."""
    scenario = warm(host, KILO_STAMPED, rounds=10)
    scenario.write(8000)
    sent = scenario.take()
    first = sent[0].first
    window, threshold = scenario.info.cwnd, scenario.info.ssthresh
    host.run_until(host.now_ns + 10**10, lambda: host.counter("timeouts") > 0)
    scenario.take()
    assert scenario.info.cwnd < window
    stamps = sent[0].options.timestamps
    assert stamps is not None
    scenario.send(f". 1:1(0) ack {first + 1000} <ts 100000 ecr {stamps[0]}>")
    scenario.take()
    assert scenario.info.cwnd >= window
    assert scenario.info.ssthresh == threshold
    assert host.counter("spurious") == 1


def test_a_needless_timeout_is_noticed_without_timestamps(host: Host) -> None:
    """RFC 5682 F-RTO: the second acknowledgment after the timeout is for what was not sent again."""
    scenario = warm(host, rounds=10)
    scenario.write(50_000)
    sent = scenario.take()
    first, window = sent[0].first, scenario.info.cwnd
    host.run_until(host.now_ns + 10**10, lambda: host.counter("timeouts") > 0)
    scenario.take()
    assert scenario.info.cwnd < window
    scenario.send(f". 1:1(0) ack {first + 1000}")
    assert all(seen.first >= sent[-1].past for seen in scenario.take())
    scenario.send(f". 1:1(0) ack {first + 2000}")
    scenario.take()
    assert host.counter("spurious") == 1
    assert scenario.info.cwnd >= window


def test_a_timeout_that_was_needed_is_not_undone(host: Host) -> None:
    """RFC 5682: what is acknowledged next is reported to be missing."""
    scenario = warm(host, rounds=10)
    scenario.write(50_000)
    first = scenario.take()[0].first
    host.run_until(host.now_ns + 10**10, lambda: host.counter("timeouts") > 0)
    scenario.take()
    scenario.send(f". 1:1(0) ack {first + 1000}")
    scenario.take()
    scenario.send(f". 1:1(0) ack {first + 1000}")
    scenario.take()
    scenario.send(f". 1:1(0) ack {first + 1000}")
    scenario.take()
    assert host.counter("spurious") == 0


def test_needless_retransmissions_are_undone_by_reports(host: Host) -> None:
    """RFC 2883, RFC 3708: D-SACK for everything that was sent again, while the recovery lasts."""
    scenario = warm(host, rounds=10)
    first = in_flight(scenario, 8)
    scenario.advance(0.1)
    window = scenario.info.cwnd
    scenario.send(f". 1:1(0) ack {first} <sack {first + 1000}:{first + 5000}>")
    assert [seen.first for seen in scenario.take(0.05)] == [first]
    scenario.send(f". 1:1(0) ack {first + 5000}")
    scenario.take()
    scenario.send(f". 1:1(0) ack {first + 5000} <sack {first}:{first + 1000}>")
    assert scenario.info.cwnd >= window
    assert host.counter("spurious") == 1


def test_needless_retransmissions_are_undone_when_nothing_is_in_flight_any_more(host: Host) -> None:
    """The report is the last that comes: nothing else about its segment is news."""
    scenario = warm(host, rounds=10)
    first = in_flight(scenario, 8)
    scenario.advance(0.1)
    window = scenario.info.cwnd
    scenario.send(f". 1:1(0) ack {first} <sack {first + 1000}:{first + 5000}>")
    assert [seen.first for seen in scenario.take(0.05)] == [first]
    scenario.send(f". 1:1(0) ack {first + 8000}")
    scenario.take()
    assert scenario.info.cwnd < window
    scenario.send(f". 1:1(0) ack {first + 8000} <sack {first}:{first + 1000}>")
    assert scenario.info.cwnd >= window
    assert host.counter("spurious") == 1


@pytest.mark.parametrize("payload", [0, 100])
def test_a_report_on_the_next_segment_expected_undoes_as_well(payload: int, host: Host) -> None:
    """RFC 2883 allows it on any segment, so it may come on one that is expected in all else, with payload or without:
    all is acknowledged, the window is as before, and it is an option that says that the recovery was needless."""
    scenario = warm(host, KILO_STAMPED, rounds=10)
    first = in_flight(scenario, 8)
    scenario.advance(0.1)
    window = scenario.info.cwnd
    scenario.send(f". 1:1(0) ack {first} <ts 100000 ecr 0,sack {first + 1000}:{first + 5000}>")
    (again,) = scenario.take(0.05)
    assert (again.first, again.options.timestamps is not None) == (first, True)
    late = again.options.timestamps[0] if again.options.timestamps else 0
    scenario.send(f". 1:1(0) ack {first + 8000} <ts 100001 ecr {late}>")
    assert scenario.info.cwnd < window
    end = 1 + payload
    scenario.send(f". 1:{end}({payload}) ack {first + 8000} <ts 100002 ecr {late},sack {first}:{first + 1000}>")
    assert scenario.info.cwnd >= window
    assert host.counter("spurious") == 1
    scenario.take(0.1)
    assert scenario.info.unread == payload


def test_a_report_with_the_acknowledgment_of_all_there_is_counts(host: Host) -> None:
    """One packet is in flight, and the segment that acknowledges it says of an earlier one that it came twice."""
    scenario = warm(host, rounds=10)
    first = in_flight(scenario, 8)
    scenario.advance(0.1)
    window = scenario.info.cwnd
    scenario.send(f". 1:1(0) ack {first} <sack {first + 1000}:{first + 5000}>")
    assert [seen.first for seen in scenario.take(0.05)] == [first]
    scenario.send(f". 1:1(0) ack {first + 8000}")
    scenario.take()
    assert not scenario.info.in_recovery
    last = in_flight(scenario, 1)
    scenario.send(f". 1:1(0) ack {last + 1000} <sack {first}:{first + 1000}>")
    assert scenario.info.cwnd >= window
    assert host.counter("spurious") == 1


def test_reports_of_a_part_undo_nothing(host: Host) -> None:
    """Two segments were sent again, and one of them was needed."""
    scenario = warm(host, rounds=10)
    first = in_flight(scenario, 8)
    scenario.advance(0.1)
    scenario.send(f". 1:1(0) ack {first} <sack {first + 2000}:{first + 8000}>")
    assert [seen.first for seen in scenario.take(0.05)] == [first, first + 1000]
    scenario.send(f". 1:1(0) ack {first + 8000}")
    scenario.send(f". 1:1(0) ack {first + 8000} <sack {first}:{first + 1000}>")
    assert host.counter("spurious") == 0


def test_the_reordering_window_widens_with_every_needless_recovery(host: Host) -> None:
    """RFC 8985 section 6.2: by a quarter of the round trip, up to a whole one, also when each of them is undone."""
    scenario = warm(host, rounds=5)
    waits = []
    for _ in range(5):
        first = in_flight(scenario, 5)
        scenario.advance(0.1)
        scenario.send(f". 1:1(0) ack {first} <sack {first + 1000}:{first + 2000}>")
        begin = host.now_s
        scenario.expect(f". {first}:{first + 1000}(1000) ack 1", within=0.2)
        waits.append(host.now_s - begin)
        scenario.send(f". 1:1(0) ack {first + 5000} <sack {first}:{first + 1000}>")
    assert waits == pytest.approx([0.025, 0.05, 0.075, 0.1, 0.1], abs=0.002)
    assert host.counter("spurious") == 5


def test_a_loss_right_behind_an_undone_recovery_is_repaired(host: Host) -> None:
    """RFC 6582 section 3.2 step 1 holds back only after something was sent again that was missing."""
    scenario = warm(host, KILO_STAMPED.replace("sackOK,", ""))
    first = in_flight(scenario, 6)
    scenario.advance(0.1)
    echo = f"<ts 1000 ecr {round(host.now_s * 1000) - 200}>"
    for _ in range(3):
        scenario.send(f". 1:1(0) ack {first} {echo}")
    scenario.expect(f". {first}:{first + 1000}(1000) ack 1")
    scenario.send(f". 1:1(0) ack {first + 2000} {echo}")
    assert host.counter("spurious") == 1
    for _ in range(3):
        scenario.send(f". 1:1(0) ack {first + 2000} {echo}")
    scenario.expect(f". {first + 2000}:{first + 3000}(1000) ack 1")


def test_after_a_timeout_a_fin_waits_for_room_as_well(host: Host) -> None:
    """RFC 5681 section 3.1: one segment, and the FIN that stands alone is another."""
    scenario = warm(host, KILO_PLAIN)
    first = in_flight(scenario, 1)
    scenario.shutdown()
    scenario.expect(f"F. {first + 1000}:{first + 1000}(0) ack 1")
    scenario.expect(f". {first}:{first + 1000}(1000) ack 1", within=0.5)
    scenario.expect_nothing(0.1)
    scenario.send(f". 1:1(0) ack {first + 1000}")
    scenario.expect(f"F. {first + 1000}:{first + 1000}(0) ack 1")
