"""The hash over what engines leave to each other: it sees what matters, and nothing else."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest
from support.tree import ROOT

SOURCES = sorted(ROOT.glob("native/src/*/*.[ch]"))


@pytest.fixture(scope="module")
def state_layout() -> ModuleType:
    spec = importlib.util.spec_from_file_location("state_layout", ROOT / "native/src/state_layout.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def changed(state_layout: ModuleType, folder: Path, old: str, new: str) -> bool:
    """Whether the layout is another one when this is written otherwise, wherever it stands."""
    copies, found = [], 0
    for source in SOURCES:
        text = source.read_text()
        found += len(re.findall(old, text))
        copies.append(folder / f"{source.parent.name}-{source.name}")
        copies[-1].write_text(re.sub(old, new, text))
    assert found, f"{old} stands nowhere"
    return state_layout.layout(copies) != state_layout.layout(SOURCES)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (r"uint32_t delivered;", "uint64_t delivered;"),  # of struct un_work, in a union
        (r"uint32_t snd_una;", "uint32_t snd_una, snd_una_again;"),  # of struct un_tcb
        (r"UN_WORK_PARTED = 1 << 12", "UN_WORK_PARTED = 1 << 13"),  # an enumeration that a comment names
        (r"X\(S, un_shared64, bytes_out", "X(S, un_shared32, bytes_out"),  # a table of fields
        (r"#define UN_PATHS 256u", "#define UN_PATHS 512u"),  # a number of entries
        (r"int32_t fd;     /\*", "int64_t fd; /*"),  # of a struct in an array in a struct
        (r"EACH\(suspects, uint8_t", "EACH(suspects, uint16_t"),  # a table of the private memory
        (r"ONE\((peers, [^\n]*\n *)ONE\(peer_buckets", r"ONE(peer_buckets, \1ONE(peers"),  # their order
        (r"un_shared64 route_changes; [^\n]*\n", ""),  # of what the kernel knows
        (r"uint32_t drops_only;", "uint64_t drops_only;"),  # of the memory of a capture
        (r"uint64_t conn; +/\* the engine's id", "uint32_t conn; /* the engine's id"),  # of its records
        (r"UN_CAPTURED_FOREIGN = 1 << 1", "UN_CAPTURED_FOREIGN = 1 << 2"),  # of what stands in their flags
        (r"\(config\)->tx_frames \+", "2 * (config)->tx_frames +"),  # how many of them there are
    ],
)
def test_another_layout_is_seen(state_layout: ModuleType, tmp_path: Path, old: str, new: str) -> None:
    assert changed(state_layout, tmp_path, old, new)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (r"/\* bytes in the ring, not consumed \*/", "/* something else */"),
        (r"#define UN_RECEIVES_PER_TURN 4", "#define UN_RECEIVES_PER_TURN 8"),
        (r"un_assert\(busy->slot == 0\);", ""),
        (r"    uint32_t spin_skip; ", "    uint64_t spin_skip; "),  # of one process's view
    ],
)
def test_what_no_engine_leaves_to_another_is_not(state_layout: ModuleType, tmp_path: Path, old: str, new: str) -> None:
    assert not changed(state_layout, tmp_path, old, new)
