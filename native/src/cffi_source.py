"""Write the C source of an extension over headers of ours: `cffi_source.py HEADER… OUTPUT`; `_usnet.c` is that of
`usnet_framework._usnet`.

cffi has no preprocessor, so it reads the part of each header between the two `cffi` marks, and nothing else: there is
no second copy of the declarations that could drift away. A header comes after those that it includes.
"""

import sys
from pathlib import Path

import cffi


def declarations(header: str) -> str:
    """The text between the marks."""
    return header.split("/* cffi: begin */", 1)[1].split("/* cffi: end */", 1)[0]


def main(headers: list[Path], output: str) -> None:
    builder = cffi.FFI()
    for header in headers:
        builder.cdef(declarations(header.read_text(encoding="utf-8")))
    includes = "\n".join(f'#include "{header.name}"' for header in headers)
    builder.set_source(f"usnet_framework.{Path(output).stem}", includes)
    builder.emit_c_code(output)


if __name__ == "__main__":
    main([Path(argument) for argument in sys.argv[1:-1]], sys.argv[-1])
