"""The corpora of the fuzz targets: one text file each in the tree, a folder of files while a fuzzer works on them.

    tools/fuzz_corpus.py unpack FOLDER           FOLDER/TARGET/… from native/fuzz/corpus/TARGET.txt, beside others
    tools/fuzz_corpus.py pack FOLDER BINARIES    the other way, as few scripts as cover the same code

BINARIES is where the fuzz_… programs are. A file has a script a line, in hexadecimal digits, the shortest first.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
from pathlib import Path

CORPUS = Path(__file__).parent.parent / "native" / "fuzz" / "corpus"
SCRIPT_BYTES = 400  # the beginning of a longer script is one too, and the tree is no place for many kilobytes
TARGETS = ("exchange", "frames", "options", "sockets", "wire", "worker")


def unpack(folder: Path) -> None:
    for target in TARGETS:
        (folder / target).mkdir(parents=True, exist_ok=True)
        for line in (CORPUS / f"{target}.txt").read_text().splitlines():
            script = bytes.fromhex(line)
            (folder / target / hashlib.sha1(script).hexdigest()).write_bytes(script)


def smallest(target: str, scripts: Path, binaries: Path) -> list[bytes]:
    """A set that reaches every edge that these reach; how often each is reached does not count."""
    with tempfile.TemporaryDirectory() as kept:
        options = ["-set_cover_merge=1", "-use_counters=0", f"-max_len={SCRIPT_BYTES}"]
        command = [str(binaries / f"fuzz_{target}"), *options, kept, str(scripts)]
        subprocess.run(command, check=True, capture_output=True)
        return sorted((path.read_bytes() for path in Path(kept).iterdir()), key=lambda script: (len(script), script))


def pack(folder: Path, binaries: Path) -> None:
    CORPUS.mkdir(exist_ok=True)
    for target in TARGETS:
        scripts = smallest(target, folder / target, binaries)
        (CORPUS / f"{target}.txt").write_text("".join(f"{script.hex()}\n" for script in scripts))
        print(f"{target}: {len(scripts)} scripts, {sum(map(len, scripts))} bytes")


def main(arguments: list[str]) -> int:
    match arguments:
        case ["unpack", folder]:
            unpack(Path(folder))
        case ["pack", folder, binaries]:
            pack(Path(folder), Path(binaries))
        case _:
            print("usage: fuzz_corpus.py unpack FOLDER | pack FOLDER BINARIES", file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
