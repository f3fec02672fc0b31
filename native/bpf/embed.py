"""Write a file as the initializer of an array of C: `embed.py FILE OUTPUT`."""

import sys
from pathlib import Path


def main(source: Path, output: Path) -> None:
    output.write_text(",".join(map(str, source.read_bytes())) + "\n", encoding="ascii")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
