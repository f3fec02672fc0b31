"""Write the C source of `usnet_framework._usnet` from the public header: `cffi_source.py HEADER OUTPUT`.

cffi has no preprocessor, so it reads the part of the header between the two `cffi` marks, and nothing else: there is
no second copy of the declarations that could drift away.
"""

import sys
from pathlib import Path

import cffi


def declarations(header: str) -> str:
    """The text between the marks."""
    return header.split("/* cffi: begin */", 1)[1].split("/* cffi: end */", 1)[0]


def main(header: str, output: str) -> None:
    builder = cffi.FFI()
    builder.cdef(declarations(Path(header).read_text(encoding="utf-8")))
    builder.set_source("usnet_framework._usnet", '#include "usnet.h"')
    builder.emit_c_code(output)


if __name__ == "__main__":
    main(*sys.argv[1:])
