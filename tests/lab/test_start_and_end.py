"""What a server does to a network card with a real driver before it serves, and what is left of it when all of it was
killed."""

from __future__ import annotations

import pytest
from support.guest import GuestServer, command, echoed, serving, settings
from support.machine import IGB, VIRTIO, Machine

pytestmark = [pytest.mark.lab, pytest.mark.timeout(1800)]


def test_after_everything_was_killed_the_next_server_puts_the_card_back(guest: Machine) -> None:
    before = settings(guest, IGB)
    killed = GuestServer(guest, IGB)
    with killed.connect(4) as client:
        assert echoed(client, b"hello")
        killed.kill_all()
    assert settings(guest, IGB) != before
    assert not settings(guest, IGB)["xdp"]
    with serving(guest, IGB) as server, server.connect(4) as client:
        assert echoed(client, b"hello")
    assert settings(guest, IGB) == before


def test_what_would_be_changed_is_shown_and_is_not_done(guest: Machine) -> None:
    before = settings(guest, IGB)
    shown = guest.run(*command(IGB, "--check")).splitlines()
    changes = [line.split(maxsplit=1)[1] for line in shown if line.startswith("change ")]
    assert any(change.startswith("igb0 rss: ") for change in changes)
    assert "igb0 XDP program: none -> ours" in changes
    assert settings(guest, IGB) == before


def test_zero_copy_is_refused_where_the_driver_has_none(guest: Machine) -> None:
    before = settings(guest, VIRTIO)
    done = guest.attempt(*command(VIRTIO, "--require", "zerocopy"))
    assert done.status == 3
    line = done.stderr.splitlines()[-1]
    assert line.startswith("usnet-serve: --require zerocopy: ")
    assert settings(guest, VIRTIO) == before
