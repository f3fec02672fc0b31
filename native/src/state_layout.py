"""Write state_layout.h: a hash of how engines lay out what outlives them.

    python state_layout.py OUTPUT DEPFILE FOLDER

An engine goes on with the memory of another one, which may be one of another version (keeper.c) if both understand it
alike. What is compared are the definitions of the structs that lie in these memories, and whatever they name, in
comments too: structs, enumerations, numbers, tables of fields. Functions and tuning are not: they may change. Behind a
pointer nothing is looked at, since nothing that outlives an engine has one. Whoever changes what a field means, and
nothing else about it, changes its name.
"""

from __future__ import annotations

import hashlib
import re
import sys
from pathlib import Path

ROOTS = (
    # What the keeper hands to an engine.
    "un_engine_setup", "un_stack_setup", "un_device_parts",
    # Private memory, segment, arena, frames, exchange: everything else is named by these.
    "un_private", "UN_PRIVATE_TABLES",
    "un_segment_header", "un_conn", "un_event", "un_command", "un_engine_public", "un_port_public", "un_port_memory",
    "un_tx_account", "un_quarantine",
    "un_link_head", "un_stack_memory", "un_tcb", "un_sent", "un_frame", "un_neighbour", "un_udp_socket", "un_time_wait",
    "un_exchange_memory", "un_kernel_table", "un_capture_ring", "un_captured",
)  # fmt: skip

COMMENTS = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)
MACRO = re.compile(r"^#define[ \t]+(UN_\w+)((?:\([^)]*\))?(?:[^\n]*\\\n)*[^\n]*)$", re.MULTILINE)
TYPE = re.compile(r"^(?:typedef )?(?:struct|enum) (un_\w+) \{.*?\}[^;{}]*;$", re.MULTILINE | re.DOTALL)
NAMED = re.compile(r"\b(?:(?:struct|enum) (un_\w+)\b(?! *\*[^/])|(UN_\w+)\b)")


def definitions(sources: list[str]) -> dict[str, str]:
    """By name, with their comments."""
    found: dict[str, str] = {}
    for source in sources:
        text = Path(source).read_text()
        for pattern in (MACRO, TYPE):
            found.update((match.group(1), match.group()) for match in pattern.finditer(text))
    return found


def reached(known: dict[str, str]) -> list[str]:
    """The roots and all that they name, each with what it names behind it."""
    waiting, seen = list(reversed(ROOTS)), []
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.append(name)
        named = (first or second for first, second in NAMED.findall(known[name]))
        waiting += reversed([other for other in named if other in known])
    return seen


def layout(sources: list[str]) -> str:
    """What is hashed: a line a definition, without comments, and without blanks that say nothing."""
    known = definitions(sources)
    return "\n".join(" ".join(COMMENTS.sub("", known[name]).replace("\\\n", " ").split()) for name in reached(known))


def main(output: str, depfile: str, folder: str) -> None:
    sources = sorted(str(source) for source in Path(folder).glob("*/*.[ch]"))
    digest = hashlib.sha256(layout(sources).encode()).hexdigest()[:16]
    Path(depfile).write_text(f"{output}: {' '.join(sources)}\n")
    Path(output).write_text(f"/* Made by state_layout.py. */\n#define UN_STATE_LAYOUT UINT64_C(0x{digest})\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
