"""Which C file needs which other: by the functions and tables that one defines and the other names.

Includes are no measure of that: the header of a facade may be included by the files behind it. What counts is the code.
An inline function of a header belongs to the files that use it.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from functools import cache

from support.tree import files, text

NOT_CODE = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"', re.S)
FUNCTION = re.compile(r"^((?:[A-Za-z_]\w*[\s*]+)+)(\w+)\([^;{}]*\)\s*\n\{(.*?)^\}", re.M | re.S)
TABLE = re.compile(r"^const [\w ]+?(\w+)(?:\[[^\]]*\])? = ", re.M)


@cache
def code(path: str) -> str:
    return NOT_CODE.sub(" ", text(path))


def words(piece: str) -> set[str]:
    return set(re.findall(r"\b[A-Za-z_]\w*\b", piece))


def defined(path: str) -> set[str]:
    """Functions and tables of a file that others may name."""
    own = {name for kind, name, _ in FUNCTION.findall(code(path)) if "static" not in kind.split()}
    return own | set(TABLE.findall(code(path)))


def inlined(headers: list[str]) -> dict[str, set[str]]:
    """What each inline function of the headers names, other inline functions seen through."""
    bodies = {name: words(body) for path in headers for _, name, body in FUNCTION.findall(code(path))}

    def all_of(name: str, above: frozenset[str]) -> set[str]:
        inner = (all_of(other, above | {name}) for other in bodies[name] & bodies.keys() - above - {name})
        return bodies[name].union(*inner)

    return {name: all_of(name, frozenset()) for name in bodies}


def needs(*folders: str) -> dict[str, set[str]]:
    """For each C file below the folders, those others that it needs."""
    paths = [path for path in files(".c", ".h") if path.startswith(folders)]
    sources = [path for path in paths if path.endswith(".c")]
    homes: defaultdict[str, set[str]] = defaultdict(set)
    for path in sources:
        for name in defined(path):
            homes[name].add(path)
    inline = inlined([path for path in paths if path.endswith(".h")])
    graph = {}
    for path in sources:
        named = words(code(path))
        named = named.union(*(inline[name] for name in named & inline.keys()))
        graph[path] = {home for name in named for home in homes.get(name, ())} - {path}
    return graph


def reachable(graph: dict[str, set[str]], start: str) -> set[str]:
    seen: set[str] = set()
    ahead = set(graph[start])
    while ahead:
        path = ahead.pop()
        seen.add(path)
        ahead |= graph[path] - seen
    return seen


def circles(graph: dict[str, set[str]]) -> Iterator[set[str]]:
    """Sets of files that need each other, directly or through others."""
    reach = {path: reachable(graph, path) for path in graph}
    left = set(graph)
    while left:
        path = left.pop()
        circle = {other for other in reach[path] if path in reach[other]}
        left -= circle
        if circle:
            yield circle
