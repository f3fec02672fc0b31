"""The Universal Scalability Law (N. J. Gunther, Guerrilla Capacity Planning, 2007), fitted to what was measured:

    X(n) = rate * n / (1 + contention * (n - 1) + coherence * n * (n - 1))

`rate` is what one carries. `contention` is the part of the work that waits for its turn: alone it is Amdahl's law.
`coherence` is what each one pays for agreeing with each of the others. With it there is a most, at
n = sqrt((1 - contention) / coherence); more than so many carry less.

n / X(n) is linear in 1, n - 1 and n * (n - 1), so three equations give the least squares. Each point weighs X(n) / n:
an error of 1 % counts alike wherever it is. No part of the law can be negative. So the fits without contention, without
coherence and without both are tried too, and the best one without a negative part is the answer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

COUNTS_MIN = 3  # different n, as the law has three parts
SAME = 12  # decimal places to which two fits have the same error: then the simpler one is taken
PARTS = ((0,), (0, 1), (0, 2), (0, 1, 2))


@dataclass(frozen=True)
class Law:
    rate: float
    contention: float
    coherence: float
    error: float  # of the point that is farthest off, as a share of it

    @property
    def peak(self) -> float | None:
        """The n that carries most; None: the more the better."""
        return max(1.0, math.sqrt(max(0.0, 1 - self.contention) / self.coherence)) if self.coherence else None

    def at(self, n: float) -> float:
        return self.rate * n / (1 + self.contention * (n - 1) + self.coherence * n * (n - 1))


def fit(points: Sequence[tuple[int, float]]) -> Law | None:
    """Of (n, X(n)) each, several of one n if there are. None: not enough different n."""
    if len({n for n, _ in points}) < COUNTS_MIN:
        return None
    rows = [tuple(carried / n * column for column in (1.0, n - 1.0, n * (n - 1.0))) for n, carried in points]
    found = [terms for parts in PARTS if (terms := _terms(rows, parts)) is not None]
    best = min(found, key=lambda terms: round(_squares(rows, terms), SAME))  # the first one of those that are alike
    one, contention, coherence = best
    law = Law(1 / one, contention / one, coherence / one, 0.0)
    return replace(law, error=max(abs(law.at(n) / carried - 1) for n, carried in points))


def _terms(rows: Sequence[Sequence[float]], parts: Sequence[int]) -> tuple[float, float, float] | None:
    """Least squares of rows * terms = 1, with these parts of the law and no others. None: one is negative."""
    products = [[sum(row[left] * row[right] for row in rows) for right in parts] for left in parts]
    found = _solve(products, [sum(row[part] for row in rows) for part in parts])
    by_part = dict(zip(parts, found, strict=True))
    one, contention, coherence = (by_part.get(part, 0.0) for part in range(3))
    return (one, contention, coherence) if one > 0 and min(contention, coherence) >= 0 else None


def _solve(matrix: list[list[float]], right: list[float]) -> list[float]:
    """Gauss, with the largest pivot first."""
    rows = [[*line, value] for line, value in zip(matrix, right, strict=True)]
    size = len(rows)
    for column in range(size):
        pivot = max(range(column, size), key=lambda line: abs(rows[line][column]))
        rows[column], rows[pivot] = rows[pivot], rows[column]
        for line in range(size):
            if line != column:
                factor = rows[line][column] / rows[column][column]
                rows[line] = [value - factor * above for value, above in zip(rows[line], rows[column], strict=True)]
    return [line[size] / line[at] for at, line in enumerate(rows)]


def _squares(rows: Sequence[Sequence[float]], terms: Sequence[float]) -> float:
    return sum((sum(value * term for value, term in zip(row, terms, strict=True)) - 1) ** 2 for row in rows)
