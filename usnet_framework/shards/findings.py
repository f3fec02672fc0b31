"""What was asked for and what is in force (P8): a finding for each thing that may differ, with its reason and fix.

Placement and start-up make them, the log and `usnet-ctl doctor` show them.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Finding:
    """`ok` is False when less is in force than was asked; then `reason` and `fix` say why and what to do."""

    what: str
    asked: str
    in_force: str
    reason: str = ""
    fix: str = ""
    ok: bool = True

    def __str__(self) -> str:
        line = f"{self.what}: {self.asked} asked, {self.in_force} in force"
        if self.reason:
            line += f": {self.reason}"
        return f"{line}; {self.fix}" if self.fix else line

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)
