"""What is asked for on a stack of our own fits together, or is refused with what to do."""

from __future__ import annotations

import os

import pytest

from usnet_framework import values
from usnet_framework._native_kernel import ADDRESSES_MAX
from usnet_framework.errors import StartupError, UsageError
from usnet_framework.shards.listeners import parse_bind
from usnet_framework.shards.stackplan import StackPlan, plan_listener, plan_stack

ADDRESSES = ("10.0.0.1/24", "fd00::1/64")


def plan(
    *binds: str,
    addresses: tuple[str, ...] = ADDRESSES,
    gateways: tuple[str, ...] = (),
    interface: str = "usnet0",
) -> StackPlan:
    return plan_stack(interface, addresses, gateways, [parse_bind(bind) for bind in binds], "tap")


def refusal(*binds: str, **options: object) -> str:
    with pytest.raises(UsageError) as caught:
        plan(*binds, **options)  # type: ignore[arg-type]
    return str(caught.value)


@pytest.mark.parametrize(
    ("bind", "host", "shown"),
    [
        ("tcp://*:80", "::", "tcp://[::]:80"),
        ("tcp://[::]:80", "::", "tcp://[::]:80"),
        ("tcp://0.0.0.0:80", "0.0.0.0", "tcp://0.0.0.0:80"),
        ("tcp://10.0.0.1:80", "10.0.0.1", "tcp://10.0.0.1:80"),
        ("tcp://[fd00:0::1]:80", "fd00::1", "tcp://[fd00::1]:80"),
    ],
)
def test_a_bind_names_addresses_of_ours(bind: str, host: str, shown: str) -> None:
    assert plan(bind).engine.listeners == ((host, 80),)
    assert plan(bind).shown == (shown,)


def test_the_engine_is_told_addresses_and_prefixes() -> None:
    assert plan("tcp://*:80").engine.addresses == (("10.0.0.1", 24), ("fd00::1", 64))


def test_the_interface_has_a_name() -> None:
    assert plan("tcp://*:80").interface == "usnet0"
    assert plan("tcp://*:80", interface="tap7").interface == "tap7"
    odd = os.fsdecode(b"caf\xe9")
    assert plan("tcp://*:80", interface=odd).interface == odd
    assert "not a name of an interface" in refusal("tcp://*:80", interface="\u00e9" * 8)


def test_a_gateway_of_each_family_lies_on_the_link() -> None:
    assert plan("tcp://*:80", gateways=("10.0.0.254", "fd00::fe")).engine.gateways == ("10.0.0.254", "fd00::fe")


def test_a_gateway_may_be_whichever_router_answers() -> None:
    assert plan("tcp://*:80", gateways=("fd00::",)).engine.gateways == ("fd00::",)


def test_a_link_local_gateway_is_on_every_link() -> None:
    assert plan("tcp://*:80", gateways=("fe80::1",)).engine.gateways == ("fe80::1",)


@pytest.mark.parametrize(
    ("binds", "options", "expected"),
    [
        (
            ["tcp://127.0.0.1:80"],
            {},
            "--bind tcp://127.0.0.1:80: 127.0.0.1 is none of our addresses, which are 10.0.0.1",
        ),
        (["tcp://host:80"], {}, "host is none of our addresses"),
        (["tcp://*:0"], {}, "--bind tcp://*:0: a port has to be named"),
        (["unix:/a"], {}, "--bind unix:/a: a stack of our own serves TCP only"),
        (["tcp://*:80", "tcp://[::]:80"], {}, "--bind tcp://[::]:80: is given twice"),
        (["tcp://*:80"], {"addresses": ()}, "--backend tap: no --address is given"),
        (["tcp://*:80"], {"addresses": ("10.0.0.1/24", "10.0.0.1/8")}, "--address 10.0.0.1/8: is given twice"),
        (["tcp://*:80"], {"addresses": tuple(f"10.0.0.{i}/24" for i in range(1, 20))}, "at most 15"),
        (["tcp://*:80"], {"gateways": ("10.1.0.1",)}, "--gateway 10.1.0.1: is not on the link"),
        (["tcp://*:80"], {"gateways": ("169.254.0.1",)}, "--gateway 169.254.0.1: is not on the link"),
        (["tcp://*:80"], {"gateways": ("10.0.0.1",)}, "--gateway 10.0.0.1: is an --address of our own"),
        (["tcp://*:80"], {"gateways": ("10.0.0.255",)}, "--gateway 10.0.0.255: is the broadcast address of its"),
        (["tcp://*:80"], {"gateways": ("10.0.0.0",)}, "--gateway 10.0.0.0: is the address of the network itself"),
        (["tcp://*:80"], {"gateways": ("10.0.0.2", "10.0.0.3")}, "there is one for IPv4 already"),
        (["tcp://*:80"], {"interface": "a/b"}, "--interface a/b: not a name"),
        (["tcp://*:80"], {"interface": "sixteen-letters-"}, "not a name"),
    ],
)
def test_what_does_not_fit_together_is_refused(binds: list[str], options: dict[str, object], expected: str) -> None:
    assert expected in refusal(*binds, **options)


def shared(*binds: str, gateways: tuple[str, ...] = (), outgoing: tuple[int, int] | None = None) -> StackPlan:
    """Of an interface that has these addresses."""
    asked = [parse_bind(bind) for bind in binds]
    return plan_stack("eth1", (), gateways, asked, "afxdp", lambda _: ADDRESSES, outgoing)


def test_without_an_address_those_of_the_interface_are_shared() -> None:
    found = shared("tcp://*:80", "tcp://10.0.0.1:81")
    assert found.shared
    assert found.addresses == ADDRESSES
    assert found.engine.addresses == ()  # it has them from the kernel
    assert found.engine.listeners == (("::", 80), ("10.0.0.1", 81))
    assert not plan_stack("eth1", ADDRESSES, (), [], "afxdp", lambda _: ()).shared


def test_an_address_that_is_not_on_the_interface_is_refused_by_the_machine() -> None:
    with pytest.raises(StartupError) as refusal:
        shared("tcp://10.0.0.2:80")
    assert str(refusal.value) == (
        "--bind tcp://10.0.0.2:80: address not on the interface: eth1 has 10.0.0.1, fd00::1; name one, or [::] for all"
    )


def test_what_does_not_go_with_shared_addresses_is_refused() -> None:
    with pytest.raises(UsageError, match="goes with an --address;"):
        shared("tcp://*:80", gateways=("10.0.0.254",))
    with pytest.raises(UsageError, match=r"--bind tcp://\*:80: the port is one of --outgoing-ports 80-90"):
        shared("tcp://*:80", outgoing=(80, 90))


def test_one_more_listener_is_on_what_the_interface_has_now() -> None:
    planned = shared("tcp://*:80", outgoing=(90, 99))
    bind = parse_bind("tcp://10.0.9.1:81", option="")
    assert plan_listener(bind, planned, ["10.0.9.1/24"], []) == (("10.0.9.1", 81), "tcp://10.0.9.1:81")
    with pytest.raises(StartupError, match="address not on the interface: eth1 has none"):
        plan_listener(bind, planned, [], [])
    with pytest.raises(UsageError, match="the port is one of --outgoing-ports 90-99"):
        plan_listener(parse_bind("tcp://*:90", option=""), planned, [], [])


@pytest.mark.parametrize(
    "text",
    [
        "10.0.0.1/24", "fd00::1/64", "fd00::ffff:ffff:ffff:ffff/64",
        "192.0.2.254/31", "192.0.2.255/31", "192.0.2.0/32", "fd00::/127", "fd00::/128",
    ],
)  # fmt: skip
def test_an_address_has_a_prefix(text: str) -> None:
    assert values.own_address(text) == text


@pytest.mark.parametrize(
    "text", ["10.0.0.1", "10.0.0/24", "10.0.0.1/33", "x", "127.0.0.1/8", "0.0.0.0/0", "ff02::1/64", "::1/128"]
)
def test_what_is_no_address_of_a_host_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="an address with its prefix"):
        values.own_address(text)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("10.0.0.0/24", "10.0.0.0 is the address of the network itself"),
        ("10.0.0.255/24", "10.0.0.255 is the broadcast address of its network"),
        ("10.0.0.3/30", "10.0.0.3 is the broadcast address of its network"),
        ("fd00::/64", "fd00:: is the anycast address of its routers"),
        ("fd00::4/126", "fd00::4 is the anycast address of its routers"),
    ],
)
def test_what_is_for_many_hosts_is_no_address_of_one(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=f"of one host on a network; {why}"):
        values.own_address(text)


def test_a_shared_address_that_is_for_all_hosts_is_not_listened_on() -> None:
    with pytest.raises(StartupError) as refusal:
        plan_stack("eth1", (), (), [parse_bind("tcp://10.0.0.255:80")], "afxdp", lambda _: ("10.0.0.255/24",))
    assert str(refusal.value) == (
        "--bind tcp://10.0.0.255:80: 10.0.0.255 is the broadcast address of its network; name the address of a host, "
        "or [::] for all"
    )


def test_ports_of_shared_addresses_take_sockets_for_addresses_that_may_come_as_well() -> None:
    assert shared("tcp://*:80", "tcp://0.0.0.0:81", "tcp://10.0.0.1:82").held == 2 * ADDRESSES_MAX + 1
    assert plan("tcp://*:80").held == 0
