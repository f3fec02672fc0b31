"""Write what derives from elsewhere into README.md: the table of options from the code, between its two marks, and the
tables of figures from docs/figures.json."""

from __future__ import annotations

import re
from pathlib import Path

import figures

from usnet_framework.config import option_table

README = Path(__file__).resolve().parents[1] / "README.md"
MARKS = ("<!-- options -->", "<!-- end of options -->")


def main() -> None:
    begin, end = MARKS
    text = README.read_text()
    table = f"{begin}\n{option_table()}\n{end}"
    text = re.sub(f"{begin}.*?{end}", lambda _: table, text, flags=re.S)
    for each in figures.tables(figures.read()):
        text = figures.put(text, each)
    README.write_text(text)


if __name__ == "__main__":
    main()
