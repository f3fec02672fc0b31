"""`python -m usnet_framework.testing.simulate --seeds N`: run random networks, one from each seed.

Each is a `World`. For a seed that fails, the command that replays it is printed; the exit code is 1 then. Seeds run in
`--jobs` processes, so that one whose process dies (an assertion in C) is named like any other.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from usnet_framework import inherited
from usnet_framework.testing.stations import SimulationFailed
from usnet_framework.testing.worlds import World

REPLAY = "python -m usnet_framework.testing.simulate --seeds 1 --first"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a seed ended; text: what did not hold, "" if everything did."""

    seed: int
    text: str
    packets: int = 0
    moves: int = 0
    virtual_s: float = 0.0


def run_seed(seed: int, capture: Path | None = None) -> Outcome:
    """Run the world of a seed. Errors of any kind are its outcome."""
    with open(capture, "wb") if capture else open("/dev/null", "wb") as file:
        try:
            world = World(seed, file if capture else None)
            world.run()
        except SimulationFailed as failed:
            return Outcome(seed, str(failed))
        except Exception:
            return Outcome(seed, traceback.format_exc())
    packets = sum(node.up.sent for node in world.nodes)
    return Outcome(seed, "", packets, world.moves, world.network.now_s)


def _work(seeds: Sequence[int], pipe: Any) -> None:
    for seed in seeds:
        pipe.send(seed)
        pipe.send(run_seed(seed))


class Job:
    """A process that runs seeds one after the other, and says with which it begins."""

    def __init__(self, seeds: Sequence[int]) -> None:
        context = get_context("fork")
        self.pipe, theirs = context.Pipe()
        self.left = list(seeds)
        self.process = context.Process(target=_work, args=(seeds, theirs), daemon=True)
        self.process.start()
        theirs.close()

    def receive(self) -> Outcome | None:
        """The next outcome, once there is one. A process that died is the outcome of its seed."""
        try:
            message = self.pipe.recv()
        except EOFError:
            self.process.join()
            return Outcome(self.left.pop(0), f"the process died: exit code {self.process.exitcode}")
        if isinstance(message, Outcome):
            self.left.pop(0)
            return message
        return None


def run_seeds(seeds: Sequence[int], jobs: int) -> Iterator[Outcome]:
    """Outcomes as they come."""
    running: dict[Connection, Job] = {}

    def start(some: Sequence[int]) -> None:
        if some:
            job = Job(some)
            running[job.pipe] = job

    for index in range(jobs):
        start(seeds[index::jobs])
    while running:
        for pipe in wait(list(running)):
            job = running[pipe]  # type: ignore[index]
            outcome = job.receive()
            if outcome is None:
                continue
            yield outcome
            if not job.left or not job.process.is_alive():
                del running[pipe]  # type: ignore[arg-type]
                job.process.join()
                start(job.left)


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m usnet_framework.testing.simulate", description=__doc__)
    parser.add_argument("--seeds", type=int, default=100, help="how many (default: %(default)s)")
    parser.add_argument("--first", type=int, default=1, help="the first of them (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=1, help="processes (default: %(default)s)")
    parser.add_argument("--capture", type=Path, help="with one seed: write its packets to this file (pcap)")
    chosen = parser.parse_args(arguments)
    inherited.reset()
    seeds = range(chosen.first, chosen.first + chosen.seeds)
    begin = time.monotonic()
    if chosen.capture:
        return _report(iter([run_seed(chosen.first, chosen.capture)]), 1, begin)
    return _report(run_seeds(seeds, chosen.jobs), len(seeds), begin)


def _report(outcomes: Iterator[Outcome], count: int, begin: float) -> int:
    failed = packets = moves = 0
    for number, outcome in enumerate(outcomes, 1):
        packets, moves = packets + outcome.packets, moves + outcome.moves
        if outcome.text:
            failed += 1
            print(f"seed {outcome.seed} failed: {outcome.text}\n  replay: {REPLAY} {outcome.seed}", flush=True)
        if number % 50 == 0 or number == count:
            print(
                f"{number} of {count} seeds, {failed} failed: {packets} packets, {moves} stacks moved, "
                f"{time.monotonic() - begin:.0f} s",
                flush=True,
            )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
