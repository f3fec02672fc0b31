"""Random networks: some seeds here, as many as one likes with `make sim SEEDS=…`; and that what goes wrong is found."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from usnet_framework.testing import SimulationFailed, Socket, Stack, simulate, worlds
from usnet_framework.testing.simulate import Outcome, main, run_seed, run_seeds
from usnet_framework.testing.worlds import World


@pytest.mark.parametrize("first", range(1, 61, 12))
def test_random_networks(first: int) -> None:
    outcomes = [run_seed(seed) for seed in range(first, first + 12)]
    assert not [outcome for outcome in outcomes if outcome.text]
    assert sum(outcome.packets for outcome in outcomes) > 1000


def test_equal_seeds_are_equal_to_the_byte(tmp_path: Path) -> None:
    captures = [tmp_path / "one", tmp_path / "other"]
    for capture in captures:
        assert not run_seed(7, capture).text
    assert captures[0].read_bytes() == captures[1].read_bytes()
    assert len(captures[0].read_bytes()) > 10_000


@pytest.mark.parametrize("seed", range(100, 112))
def test_without_fast_paths_the_same_packets_leave(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    captures = [tmp_path / "fast", tmp_path / "slow"]
    for capture in captures:
        monkeypatch.setattr(Stack, "fast_paths", capture.name == "fast")
        assert not run_seed(seed, capture).text
    assert captures[0].read_bytes() == captures[1].read_bytes()


def test_a_byte_that_got_lost_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    read = Socket.read
    monkeypatch.setattr(Socket, "read", lambda socket, most: (read(socket, most) or b"")[1:] or None)
    with pytest.raises(SimulationFailed, match="wrong at position 0"):
        World(3).run()


def test_a_leak_is_found() -> None:
    world = World(3)
    world.usages[0] = replace(world.usages[0], frames_free=world.usages[0].frames_free + 1)
    with pytest.raises(SimulationFailed, match=r"keeps Usage\(conns=0"):
        world.run()


def test_what_never_ends_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Socket, "read", lambda socket, most: None)
    monkeypatch.setattr(worlds, "DEADLINE_S", 1000.0)
    with pytest.raises(SimulationFailed, match="what does not end: "):
        World(3).run()


def test_a_seed_that_fails_comes_with_its_replay(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(simulate, "run_seed", lambda seed: Outcome(seed, "it broke" if seed == 6 else ""))
    assert main(["--first", "5", "--seeds", "3", "--jobs", "2"]) == 1
    said = capsys.readouterr().out
    assert "seed 6 failed: it broke" in said
    assert f"{simulate.REPLAY} 6" in said
    assert "3 of 3 seeds, 1 failed" in said


def test_a_seed_whose_process_dies_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(seed: int) -> Outcome:
        if seed == 6:
            os.kill(os.getpid(), signal.SIGKILL)
        return Outcome(seed, "")

    monkeypatch.setattr(simulate, "run_seed", run)
    outcomes = {outcome.seed: outcome.text for outcome in run_seeds(range(5, 9), jobs=1)}
    assert outcomes == {5: "", 6: "the process died: exit code -9", 7: "", 8: ""}
