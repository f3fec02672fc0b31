"""What the link says of the server's addresses, and what engines say at all: heard, shown, and not believed blindly."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket

import pytest

from usnet_framework.shards.addressbook import DISPUTED_S, AddressBook, News
from usnet_framework.shards.enginewords import MESSAGE, MESSAGES_AT_ONCE, InlineWords, Kind, Message

MAC = "02:00:00:00:00:09"
ADDRESS = bytes(10) + b"\xff\xff" + bytes([10, 0, 0, 1])
TAKEN = MESSAGE.pack(Kind.ADDRESS, News.TAKEN, 0x00000002, 0x0900, 0, 0)[:16] + ADDRESS


class Ear:
    """A listener that remembers."""

    def __init__(self) -> None:
        self.heard: list[object] = []

    def accepting_paused(self, error: int) -> None:
        self.heard.append(error)

    def address_news(self, address: str, news: News, mac: str) -> None:
        self.heard.append((address, news, mac))

    def neighbour_wanted(self, ip: bytes) -> None:
        self.heard.append(ip)

    def engine_says(self, text: str) -> None:
        self.heard.append(text)


@pytest.fixture
def now() -> list[float]:
    return [100.0]


@pytest.fixture
def book(now: list[float]) -> AddressBook:
    return AddressBook(lambda: now[0])


def test_an_address_that_is_taken_is_not_served_until_it_is_free(book: AddressBook, now: list[float]) -> None:
    book.tell("10.0.0.1", News.TAKEN, MAC)
    now[0] += 1000
    finding = book.finding("10.0.0.1/24")
    assert (finding.ok, finding.in_force) == (False, "not served")
    assert MAC in finding.reason
    assert book.finding("10.0.0.2/24").ok
    book.tell("10.0.0.1", News.FREE, MAC)
    assert book.finding("10.0.0.1/24").ok


def test_an_address_is_disputed_while_claims_come(book: AddressBook, now: list[float]) -> None:
    book.tell("fd00::1", News.DEFENDED, MAC)
    now[0] += DISPUTED_S
    assert not book.finding("fd00::1/64").ok
    book.tell("fd00::1", News.DEFENDED, MAC)
    now[0] += DISPUTED_S
    assert not book.finding("fd00::1/64").ok
    now[0] += 1
    assert book.finding("fd00::1/64").ok


def test_a_stack_that_begins_anew_knows_of_no_claims(book: AddressBook) -> None:
    book.tell("10.0.0.1", News.TAKEN, MAC)
    book.forget()
    assert book.finding("10.0.0.1/24").ok


def test_news_are_in_the_log_with_fields_of_their_own(book: AddressBook, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "usnet.supervisor"):
        book.tell("10.0.0.1", News.DEFENDED, MAC)
        book.tell("10.0.0.1", News.FREE, MAC)
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert {vars(record)["address"] for record in caplog.records} == {"10.0.0.1"}
    assert {vars(record)["station"] for record in caplog.records} == {MAC}


def heard(packet: bytes) -> list[object]:
    ear = Ear()
    if (message := Message.read(packet)) is not None:
        message.tell(ear)
    return ear.heard


def test_words_of_an_engine_are_read() -> None:
    assert heard(TAKEN) == [("10.0.0.1", News.TAKEN, "02:00:00:00:00:09")]
    assert heard(MESSAGE.pack(Kind.LIMIT, 0, 0, 0, 24, 0)) == [24]
    assert heard(MESSAGE.pack(Kind.ASKS, 0, 0, 0, 0, 0)[:16] + ADDRESS) == [ADDRESS]
    assert heard(MESSAGE.pack(Kind.SAYS, 0, 0, 0, 0, 0) + b"it is over") == ["it is over"]


@pytest.mark.parametrize(
    "packet",
    [b"x", MESSAGE.pack(99, 0, 0, 0, 0, 0), MESSAGE.pack(Kind.ADDRESS, 9, 0, 0, 0, 0), MESSAGE.pack(2, 0, 0, 0, 0, 0)],
)
def test_nonsense_of_an_application_is_left_out(packet: bytes) -> None:
    assert heard(packet) == []


@pytest.mark.parametrize("error", [4096, 2**31, 2**64 - 1])
def test_an_error_number_is_one_that_has_a_text(error: int) -> None:
    assert heard(MESSAGE.pack(Kind.LIMIT, 0, 0, 0, error, 0)) == [errno.EPROTO]


def test_text_cannot_forge_lines_of_the_log() -> None:
    assert heard(MESSAGE.pack(Kind.SAYS, 0, 0, 0, 0, 0) + b"one\ntwo\x1b[31m\xff") == ["one?two?[31m\\xff"]


def test_a_worker_that_reads_nothing_is_known_not_to_have_been_asked() -> None:
    async def run() -> None:
        words = InlineWords(Ear())
        asked = MESSAGE.pack(Kind.LOOK, 0, 0, 0, 0, 0)
        assert words.ask(asked, [])
        while words.ask(asked, []):
            pass
        words.theirs.recv(MESSAGE.size)
        words.close()

    asyncio.run(run())


def test_whoever_writes_without_end_holds_nobody_up() -> None:
    async def run() -> int:
        ear = Ear()
        words = InlineWords(ear)
        sent = 0
        with words.theirs.dup() as theirs:
            theirs.setblocking(False)
            try:
                while True:
                    theirs.send(MESSAGE.pack(Kind.LIMIT, 0, 0, 0, 1, 0), socket.MSG_NOSIGNAL)
                    sent += 1
            except BlockingIOError:
                pass
            words._readable()
        assert sent > MESSAGES_AT_ONCE
        words.close()
        return len(ear.heard)

    assert asyncio.run(run()) == 2 * MESSAGES_AT_ONCE  # the second time as it is closed
