"""What one connection found out about a path serves the next one (RFC 1191 section 6.3, RFC 8201 section 5.2)."""

from __future__ import annotations

import pytest

from usnet_framework.testing import Host, Scenario, Stack, states
from usnet_framework.testing.host import PEER
from usnet_framework.testing.packets import Icmp
from usnet_framework.testing.peer import quote

BOTH = pytest.mark.parametrize("family", [4, 6])
TOO_BIG = {4: (3, 4), 6: (2, 0)}
GATEWAYS = {4: "10.0.0.254", 6: "fd00::fe"}
HEADERS = {4: 40, 6: 60}


def narrow(scenario: Scenario, mtu: int = 1400) -> None:
    """A router has no room for what the stack sends to the peer."""
    family = scenario.host.family
    scenario.write(4000)
    scenario.expect_data(1, 4001)
    scenario.send_icmp(*TOO_BIG[family], about=1, mtu=mtu, source=GATEWAYS[family])
    scenario.take()


def path_mtu(host: Host) -> int:
    """Of a new connection to the peer."""
    scenario = states.established(host, states.PLAIN_SYN)
    mtu = scenario.info.path_mtu
    host.stack.abort(scenario.conn)
    host.turn()
    host.sent.clear()
    return mtu


@BOTH
def test_the_next_connection_to_the_same_place_knows(family: int, host: Host) -> None:
    narrow(states.established(host, states.PLAIN_SYN))
    again = states.established(host, states.PLAIN_SYN)
    again.write(4000)
    sizes = again.expect_data(1, 4001)
    assert max(sizes) == 1400 - HEADERS[family]
    assert host.counter("paths_learnt") == 1


@BOTH
def test_also_one_that_we_open(family: int, host: Host) -> None:
    """What it announces is what we can receive, whatever the path of what we send (RFC 6691)."""
    narrow(states.established(host, states.PLAIN_SYN))
    client = Scenario(host, local_port=50000)
    client.connect()
    client.expect(f"S 0:0(0) <mss {1500 - HEADERS[family]},sackOK,ts,wscale>")
    assert client.info.path_mtu == 1400
    client.send("S. 0:0(0) ack 1 win 65535 <mss 1460>")
    client.expect(". 1:1(0) ack 1")
    client.write(4000)
    assert max(client.expect_data(1, 4001)) == 1400 - HEADERS[family]


@BOTH
def test_also_a_datagram(family: int, host: Host) -> None:
    """It is told at once that it is too long, which no router would tell."""
    endpoint = host.stack.udp_open(("", 7))
    narrow(states.established(host, states.PLAIN_SYN))
    with pytest.raises(OSError, match="Message too long"):
        host.stack.udp_send(endpoint, (PEER[family], 9), bytes(1420))


@BOTH
def test_not_one_to_another_place(family: int, host: Host) -> None:
    narrow(states.established(host, states.PLAIN_SYN))
    other = "10.0.0.3" if family == 4 else "fd00::3"
    client = Scenario(host, local_port=50000, remote=(other, 80))
    client.connect()
    client.expect(f"S 0:0(0) <mss {1500 - HEADERS[family]},sackOK,ts,wscale>")


@BOTH
def test_it_is_forgotten_after_ten_minutes(family: int, host: Host) -> None:
    """RFC 1191 section 6.3: the path may be wider again."""
    narrow(states.established(host, states.PLAIN_SYN))
    host.run_until(host.now_ns + 590 * 10**9, lambda: False)
    host.sent.clear()
    assert path_mtu(host) == 1400
    host.run_until(host.now_ns + 20 * 10**9, lambda: False)
    host.sent.clear()
    assert path_mtu(host) == 1500


def test_a_path_may_become_narrower_still(host: Host) -> None:
    narrow(states.established(host, states.PLAIN_SYN))
    narrow(states.established(host, states.PLAIN_SYN), 1000)
    assert path_mtu(host) == 1000
    assert host.counter("paths_learnt") == 2


@BOTH
def test_a_forged_report_teaches_nothing(family: int, host: Host) -> None:
    """RFC 5927: of a connection that does not exist, of one that has nothing in flight, or about what it has not."""
    scenario = states.established(host, states.PLAIN_SYN)
    scenario.send_icmp(*TOO_BIG[family], about=1, mtu=1300, source=GATEWAYS[family])
    scenario.write(100)
    scenario.expect("P. 1:101(100) ack 1")
    scenario.send_icmp(*TOO_BIG[family], about=101, mtu=1300, source=GATEWAYS[family])
    Scenario(host, local_port=50001).send_icmp(*TOO_BIG[family], about=1, mtu=1300, source=GATEWAYS[family])
    host.sent.clear()
    assert host.counter("paths_learnt") == 0
    assert path_mtu(host) == 1500


def test_a_report_about_a_datagram_teaches_nothing(host: Host) -> None:
    """It quotes nothing that only who saw it could know."""
    host.stack.udp_open(("", 7))
    quoted = quote(("10.0.0.1", 7), (PEER[4], 9), 0)
    quoted = quoted[:9] + b"\x11" + quoted[10:]
    host.send_body(Icmp(3, 4, rest=b"\0\0\x05\x00", payload=quoted))
    assert host.counter("paths_learnt") == 0
    assert path_mtu(host) == 1500


def test_a_black_hole_is_one_connections_own_suspicion(host: Host) -> None:
    """Packets were lost: that may have been anything."""
    scenario = states.established(host, states.PLAIN_SYN)
    scenario.write(4000)
    scenario.take(60)
    assert scenario.info.path_mtu == 1280
    assert host.counter("paths_learnt") == 0


def test_the_table_is_bounded(host: Host) -> None:
    """Whoever has many addresses pushes out others' paths, and that is all."""
    for number in range(1, 600):
        remote = (f"10.0.{number // 250 + 4}.{number % 250 + 1}", 80)
        host.stack.add_route("10.0.0.0/16", "10.0.0.254") if number == 1 else None
        scenario = states.established(host, states.PLAIN_SYN, remote=remote)
        narrow(scenario)
        host.stack.abort(scenario.conn)
        host.turn()
        host.sent.clear()
    assert host.counter("paths_learnt") == 599
    states.established(host)


def test_paths_outlive_the_process(host: Host) -> None:
    narrow(states.established(host, states.PLAIN_SYN))
    image, link = host.stack.image(), host.stack.link
    host.stack.close()
    host.stacks[0] = Stack.adopt(image, link)
    host.turn()
    host.sent.clear()
    assert path_mtu(host) == 1400
