"""The part of a unit's sandbox that programs notice: which system calls there are, and that no page becomes code.

    Server(APP, prefix=sandboxed(allowed_by(ROOT / "deploy/systemd/usnet.service")))

The names of filters are looked up as systemd knows them (`systemd-analyze syscall-filter`), the numbers of calls as the
C library does. What is not allowed fails with EPERM, as SystemCallErrorNumber= of the unit has it.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

_PROGRAM = """
import ctypes, os, struct, sys
numbers, *command = sys.argv[1:]
allowed = sorted(map(int, numbers.split(",")))
LOAD, EQUAL, RETURN = 0x20, 0x15, 0x06
program = [(LOAD, 0, 0, 0)]
for number in allowed:
    program += [(EQUAL, 0, 1, number), (RETURN, 0, 0, 0x7FFF0000)]
program += [(RETURN, 0, 0, 0x00050000 | 1)]
filters = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *one) for one in program))
class Filter(ctypes.Structure):
    _fields_ = [("count", ctypes.c_ushort), ("filters", ctypes.c_void_p)]
libc = ctypes.CDLL(None, use_errno=True)
def prctl(*arguments):
    if libc.prctl(*(ctypes.c_ulong(one) for one in (*arguments, 0, 0, 0, 0)[:5])) != 0:
        raise OSError(ctypes.get_errno(), "prctl")
prctl(38, 1)  # PR_SET_NO_NEW_PRIVS
libc_filter = Filter(len(program), ctypes.cast(filters, ctypes.c_void_p))
prctl(22, 2, ctypes.addressof(libc_filter))  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER
try:
    prctl(65, 1)  # PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN
except OSError:
    pass  # a kernel before 6.3
os.execvp(command[0], command)
"""


def sandboxed(allowed: set[str]) -> list[str]:
    """To be put in front of a command, which gets the system calls of these names alone."""
    numbers = _numbers()
    known = [str(numbers[name]) for name in sorted(allowed) if name in numbers]
    return [sys.executable, "-S", "-E", "-c", _PROGRAM, ",".join(known)]


def allowed_by(unit: Path) -> set[str]:
    """What the lines SystemCallFilter= of a unit come to."""
    groups, allowed = _groups(), set[str]()
    for line in re.findall(r"^SystemCallFilter=(.+)$", unit.read_text(), flags=re.M):
        names = {name for word in line.lstrip("~").split() for name in _members(groups, word)}
        allowed = allowed - names if line.startswith("~") else allowed | names
    return allowed


def _members(groups: dict[str, list[str]], word: str) -> set[str]:
    if not word.startswith("@"):
        return {word}
    return {name for member in groups[word] for name in _members(groups, member)}


def _groups() -> dict[str, list[str]]:
    command = ["systemd-analyze", "syscall-filter", "--no-pager"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    groups: dict[str, list[str]] = {}
    members: list[str] = []
    for line in listed.splitlines():
        word = line.strip()
        if line.startswith("@"):
            members = groups[word] = []
        elif word and not word.startswith("#"):
            members.append(word)
    return groups


def _numbers() -> dict[str, int]:
    command = ["cc", "-E", "-dM", "-include", "sys/syscall.h", "-x", "c", "/dev/null"]
    defined = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return {name: int(number) for name, number in re.findall(r"^#define __NR_(\w+) (\d+)$", defined, flags=re.M)}
