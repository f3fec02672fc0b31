"""What the engine is asked to do, from the configuration to the header of the segment."""

from __future__ import annotations

from pathlib import Path

from support.server import free_port

from usnet_framework import _native
from usnet_framework.config import Config
from usnet_framework.shards.preparation import Prepared, prepare, understand
from usnet_framework.shards.segment import EngineOptions, Segment, SegmentConfig


def prepared(**given: object) -> Prepared:
    bind = f"tcp://127.0.0.1:{free_port()}"
    config = Config.from_values(app="examples.echo:Echo", bind=bind, control="off", **given)
    made = prepare(config, understand(config))
    made.close()
    return made


def test_every_shard_gets_what_was_asked_for() -> None:
    made = prepared(queues=2, idle_timeout=1.5, backlog=7, max_connections=100, poll="sleep")
    assert len(made.options) == 2
    for options in made.options:
        assert options.numbers["idle_timeout_ns"] == 1_500_000_000
        assert options.numbers["backlog"] == 7
        assert options.numbers["connection_limit"] == 50
        assert options.numbers["poll_mode"] == _native.POLL_MODES["sleep"]


def test_whether_events_can_be_kept_is_asked_anew(tmp_path: Path) -> None:
    folder = tmp_path / "quarantine"
    made = prepared(quarantine=str(folder))
    assert [one.in_force for one in made.findings if one.what == "quarantine"] == [str(folder)]
    folder.write_text("")  # somebody puts a file there
    assert [one.in_force for one in made.findings if one.what == "quarantine"] == ["none"]


def test_every_option_is_set_by_somebody() -> None:
    of_packet_devices = {"queue", "queues", "accept_partial_checksum", "shared", "outgoing_low", "outgoing_high"}
    of_simulations = {"seed"}
    assert prepared().options[0].numbers.keys() == set(_native.OPTIONS) - of_packet_devices - of_simulations


def test_an_engine_begins_with_what_is_listened_on_then() -> None:
    addresses = _native.StackAddresses(addresses=[("10.0.0.1", 24)], listeners=[("10.0.0.1", 80)])
    options = EngineOptions(numbers={"queues": 1}, addresses=addresses).listening_on([("10.0.0.1", 81)])
    assert (options.addresses.addresses, options.addresses.listeners) == ([("10.0.0.1", 24)], (("10.0.0.1", 81),))
    Segment.create(SegmentConfig.for_kernel(0, 1, 16), options).close()
