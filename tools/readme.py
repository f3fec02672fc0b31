"""Write what derives from the code into README.md: the table of options, between its two marks."""

from __future__ import annotations

import re
from pathlib import Path

from usnet_framework.config import option_table

README = Path(__file__).resolve().parents[1] / "README.md"
MARKS = ("<!-- options -->", "<!-- end of options -->")


def main() -> None:
    begin, end = MARKS
    text = README.read_text()
    table = f"{begin}\n{option_table()}\n{end}"
    README.write_text(re.sub(f"{begin}.*?{end}", lambda _: table, text, flags=re.S))


if __name__ == "__main__":
    main()
