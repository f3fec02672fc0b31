"""Write the drawing of a shard's memory into ARCHITECTURE.md, between its two marks, from the table in
native/src/shard/layout.h."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from usnet_framework._native import Region, layout_regions
from usnet_framework.shards.segment import SegmentConfig

ARCHITECTURE = Path(__file__).resolve().parents[1] / "ARCHITECTURE.md"
MARKS = ("<!-- layout -->", "<!-- end of layout -->")
TITLES = {
    "public": "public: one memory, which workers map read-only",
    "port": "port: one memory for each worker, which the engine reads and does not believe",
}


def drawing() -> str:
    """What stands between the marks."""
    regions = layout_regions(asdict(SegmentConfig.for_kernel(shard=0, seats=1, conn_max=1024))).values()
    memories = [_memory(title, [one for one in regions if one.memory == memory]) for memory, title in TITLES.items()]
    return "\n".join(["```", "\n\n".join(memories), "```"])


def _memory(title: str, regions: Iterable[Region]) -> str:
    rows = [f"  {one.name:13} {one.writer:11} {_size(one):46} {one.holds}" for one in regions]
    return "\n".join([title, *rows])


def _size(region: Region) -> str:
    """How much of what: `ports x event_slots x un_event`."""
    factors = [text for text in (_plain(region.parts), _plain(region.items)) if text != "1"]
    return " x ".join([*factors, _plain(region.item)])


def _plain(text: str) -> str:
    text = re.sub(r"sizeof\((?:struct )?(\w+)\)", r"\1", text)
    text = text.replace("config->seats * UN_PORTS", "ports")
    text = re.sub(r"config->|\(uint64_t\)", "", text)
    return f"({text})" if "+" in text else text


def main() -> None:
    begin, end = MARKS
    text = ARCHITECTURE.read_text()
    ARCHITECTURE.write_text(re.sub(f"{begin}.*?{end}", lambda _: f"{begin}\n{drawing()}\n{end}", text, flags=re.S))


if __name__ == "__main__":
    main()
