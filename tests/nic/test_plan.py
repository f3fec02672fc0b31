"""What is changed on a network card for a server: a pure function of what the card reports and what is wanted."""

from __future__ import annotations

import contextlib

import pytest
from support.fake_card import OTHER_KEY, FakeCard

from usnet_framework.errors import StartupError
from usnet_framework.shards.cardsettings import Change, own_table
from usnet_framework.shards.ethtool import FIELDS, Channels, Ethtool, Feature, Rss
from usnet_framework.shards.nic import Card, Wanted, card_findings, plan, planned, read_card

FOUR = Wanted("lo", 4)
KEY = "6d5a" * 20


def card(**other: object) -> Card:
    return read_card(FakeCard(**other).card)  # type: ignore[arg-type]


def changes(card: Card, wanted: Wanted = FOUR) -> dict[str, Change]:
    return {f"{change.kind} {change.name}".strip(): change for change in plan(card, wanted)}


def steering(card: Card, wanted: Wanted = FOUR, **refused: str) -> tuple[bool, str]:
    """Whether it is as it was asked for, and why not."""
    (finding,) = (one for one in card_findings(card, wanted, refused) if one.what == "card steering")
    assert finding.ok == (finding.reason == "") == (finding.fix == "")
    return finding.ok, finding.reason


def as_wanted(**other: object) -> Card:
    """A card that has everything for four queues."""
    rss = Rss("toeplitz", bytes.fromhex(KEY), tuple(entry % 4 for entry in range(128)))
    channels = Channels(0, 0, 1, 4, 0, 0, 1, 8)
    told = {"now": channels, "hash": rss, "hashed": dict.fromkeys(("tcp4", "tcp6"), frozenset(FIELDS)), "offloads": {}}
    return card(**(told | other))


def test_all_is_set_in_an_order_that_works() -> None:
    assert list(changes(card())) == ["feature rx-lro", "channels", "rss", "flow tcp4", "flow tcp6"]


def test_queues_are_added() -> None:
    change = changes(card())["channels"]
    assert (change.before, change.value) == ([0, 0, 1, 2], [0, 0, 1, 4])


@pytest.mark.parametrize("now", [Channels(1, 1, 0, 0, 8, 8, 0, 0), Channels(4, 2, 0, 0, 8, 8, 0, 0)])
def test_queues_that_only_receive_are_added_with_as_many_that_send(now: Channels) -> None:
    """What a shard sends through a queue that there is not, the kernel leaves lying."""
    assert changes(card(now=now))["channels"].value == [4, 4, 0, 0]


def test_too_few_queues_that_send_are_refused() -> None:
    with pytest.raises(StartupError, match=r"--queues 4: lo sends from 2 \(fake\); use --queues 2$"):
        plan(card(now=Channels(1, 1, 0, 0, 8, 2, 0, 0)), FOUR)


def test_queues_are_never_taken_away() -> None:
    found = changes(card(now=Channels(0, 0, 1, 8, 0, 0, 1, 8)))
    assert "channels" not in found
    assert set(found["rss"].value[2]) == {0, 1, 2, 3}


def test_too_few_queues_are_refused_with_the_number_that_there_is() -> None:
    with pytest.raises(StartupError, match=r"use --queues 2$"):
        plan(card(now=Channels(0, 0, 1, 2, 0, 0, 1, 2)), FOUR)


@pytest.mark.parametrize(
    ("now", "way"),
    [
        (Channels(2, 2, 0, 0, 2, 2, 0, 0), "; use --queues 2, or ethtool -L lo rx 1"),
        (Channels(0, 0, 1, 2, 0, 0, 1, 8), "; use --queues 2, or ethtool -L lo combined 1"),
    ],
)
def test_fewer_queues_than_come_in_are_refused_where_none_can_be_left_out(now: Channels, way: str) -> None:
    with pytest.raises(StartupError) as refused:
        plan(card(now=now, lacks={"rss"}), Wanted("lo", 1))
    expected = "--queues 1: lo receives on 2 queues, and its driver (fake) cannot leave one out"
    assert str(refused.value) == expected + way


def test_a_card_without_channels_has_the_queues_that_it_has() -> None:
    with pytest.raises(StartupError, match="--queues 4: lo has 1 "):
        plan(card(lacks={"channels"}), FOUR)


def test_a_driver_of_nothing_at_all_is_read() -> None:
    with Ethtool("lo") as loopback:
        found = read_card(loopback)
    assert (found.queues, found.queues_max, found.channels, found.rss) == (1, 1, None, None)


@pytest.mark.parametrize(("entries", "queues"), [(128, 4), (512, 3), (64, 4)])
def test_the_table_names_the_owners(entries: int, queues: int) -> None:
    found = changes(card(hash=Rss("toeplitz", OTHER_KEY, own_table(entries, 2))), Wanted("lo", queues))
    function, key, table = found["rss"].value
    assert (function, key) == ("toeplitz", KEY)
    assert table == [entry % 128 % queues for entry in range(entries)]


def test_a_longer_key_repeats_the_same_two_bytes() -> None:
    found = changes(card(hash=Rss("toeplitz", bytes(52), own_table(128, 2))))
    assert found["rss"].value[1] == "6d5a" * 26


def test_a_table_of_the_drivers_own_is_told_from_one_that_somebody_set() -> None:
    assert changes(card())["rss"].before == ["toeplitz", OTHER_KEY.hex(), None]
    assert changes(card(hash=Rss("toeplitz", OTHER_KEY, (1,) * 128)))["rss"].before[2] == [1] * 128


def test_what_would_be_changed_is_a_line_each(monkeypatch: pytest.MonkeyPatch) -> None:
    card = FakeCard()
    monkeypatch.setattr("usnet_framework.shards.nic.Ethtool", lambda _: contextlib.nullcontext(card))
    assert planned(FOUR) == [
        "lo feature rx-lro: on -> off",
        "lo channels: 2 receiving -> 4 receiving",
        "lo rss: toeplitz with key 01020304…, the driver's own table -> "
        "toeplitz with key 6d5a6d5a…, a table of 128 over 4 queues",
        "lo flow tcp4: destination address, source address -> "
        "destination address, destination port, source address, source port",
        "lo flow tcp6: destination address, source address -> "
        "destination address, destination port, source address, source port",
    ]
    assert card.said == []


def test_nothing_is_changed_on_a_card_that_has_everything() -> None:
    assert plan(as_wanted(), FOUR) == []
    assert steering(as_wanted()) == (True, "")


@pytest.mark.parametrize("lacking", [{"lacks": {"rss"}}, {"hash": Rss("toeplitz", b"", ())}])
def test_a_driver_without_a_table_is_left_as_it_is_and_told(lacking: dict[str, object]) -> None:
    without = as_wanted(hashed={"tcp4": frozenset(), "tcp6": frozenset()}, **lacking)
    assert plan(without, FOUR) == []
    assert steering(without) == (False, "the driver fake has no table for its hash")


def test_what_a_driver_refused_is_told_with_its_reason() -> None:
    ok, reason = steering(as_wanted(hash=Rss("toeplitz", OTHER_KEY, own_table(128, 4))), rss="Invalid argument")
    assert (ok, reason) == (False, "the key is another one: Invalid argument")


def test_a_hash_of_addresses_alone_is_told() -> None:
    hashed = {"tcp4": frozenset(FIELDS), "tcp6": frozenset({"source address"})}
    assert steering(as_wanted(hashed=hashed)) == (False, "of tcp6 it hashes source address")


def test_a_table_that_is_too_short_for_three_queues_is_told() -> None:
    wanted = Wanted("lo", 3)
    rss = Rss("toeplitz", bytes.fromhex(KEY), tuple(entry % 3 for entry in range(64)))
    assert steering(as_wanted(hash=rss), wanted) == (False, "a table of 64 entries cannot name all owners")


def test_one_queue_needs_no_hash() -> None:
    one = as_wanted(now=Channels(0, 0, 1, 1, 0, 0, 1, 8), hash=Rss("toeplitz", OTHER_KEY, (0,) * 128))
    assert steering(one, Wanted("lo", 1)) == (True, "")


@pytest.mark.parametrize(("mtu", "ok"), [(1500, True), (3498, True), (3499, False), (9000, False)])
def test_a_packet_has_to_fit_into_a_frame(mtu: int, ok: bool) -> None:
    (finding,) = (one for one in card_findings(as_wanted(length=mtu), FOUR, {}) if one.what == "MTU")
    assert finding.ok == ok
    assert finding.fix == ("" if ok else "ip link set lo mtu 3498")


def test_a_packet_has_to_fit_into_several_frames() -> None:
    wanted = Wanted("lo", 4, mtu_max=9000)
    found = [one for one in card_findings(as_wanted(length=9001), wanted, {}) if one.what == "MTU"]
    assert [one.fix for one in found] == ["ip link set lo mtu 9000"]
    (finding,) = (one for one in card_findings(as_wanted(length=9000), wanted, {}) if one.what == "MTU")
    assert finding.ok


def test_merging_that_stays_on_is_told() -> None:
    kept = as_wanted(offloads={"rx-lro": Feature(True, True, False)})
    assert plan(kept, FOUR) == []
    (finding,) = (one for one in card_findings(kept, FOUR, {}) if one.what == "card offloads")
    assert (finding.ok, finding.fix) == (False, "ethtool -K lo rx-lro off")


