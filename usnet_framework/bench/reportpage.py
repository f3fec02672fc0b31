"""The page of `usnet-bench report`: one HTML file that needs nothing else, light or dark as its reader has it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from typing import Any

from usnet_framework.bench.reportdraw import DARK, LIGHT, PICTURES, Colours, Picture
from usnet_framework.bench.reportrows import Row

Parts = Mapping[str, Mapping[str, Any]]

WITHOUT_INFLUENCE = ("quarantine", "listener", "address", "gateway", "preload")
"""Modes that no figure depends on."""

STYLE = """
body { margin: 0 auto; max-width: 68rem; padding: 1.5rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.5 system-ui, sans-serif; }
h1 { font-size: 1.7rem; } h2 { font-size: 1.25rem; margin-top: 2.5rem; }
figure { margin: 1rem 0; } figure svg { width: 100%; height: auto; }
pre { overflow-x: auto; padding: .6rem .8rem; border: 1px solid var(--grid); border-radius: .4rem; font-size: .8rem;
  line-height: 1.4; }
table { border-collapse: collapse; font-size: .9rem; } td, th { padding: .2rem .8rem .2rem 0; text-align: left;
  vertical-align: top; border-bottom: 1px solid var(--grid); }
summary { cursor: pointer; } .muted, .files { color: var(--muted); font-size: .9rem; } a { color: var(--kernel); }
.missed { color: var(--missed); font-weight: 600; } .reached { color: var(--reached); }
"""


def page(report: Mapping[str, Any], svgs: Mapping[str, str], bars: Sequence[Row]) -> str:
    """`svgs` by picture; those that are not there could not be drawn, for want of their parts."""
    parts = report["parts"]
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8"><title>usnet-bench report</title>',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<style>{_variables(LIGHT)}\n@media (prefers-color-scheme: dark) {{ {_variables(DARK)} }}{STYLE}</style>",
            "</head><body>",
            *_head(report),
            *_outcome(bars),
            *_machine(report, parts),
            *(line for picture in PICTURES for line in _picture(picture, svgs.get(picture.name), parts)),
            "<h2>All measurements</h2>",
            *(line for name, part in parts.items() for line in _part(name, part)),
            "</body></html>\n",
        ]
    )


def _variables(colours: Colours) -> str:
    scheme = "dark" if colours is DARK else "light"
    return f":root {{ color-scheme: {scheme}; {' '.join(f'--{name}: {value};' for name, value in colours.items())} }}"


def _head(report: Mapping[str, Any]) -> Iterator[str]:
    machine = report["machine"]
    yield "<h1>usnet-bench report</h1>"
    yield (
        f"<p>{escape(str(machine['processor']))}, {machine['cores']} cores, Linux {escape(str(machine['kernel']))}, "
        f"Python {machine['python']}; {escape(report['made'])}, in {report['seconds'] / 60:.0f} min.</p>"
    )
    if report["quick"]:
        yield '<p class="missed">Made by --quick, to look at the report: its runs are too short for figures.</p>'


def _outcome(bars: Sequence[Row]) -> Iterator[str]:
    missed = [row for row in bars if not row["is_reached"]]
    if bars:
        kind = "missed" if missed else "reached"
        yield f'<p class="{kind}">{len(bars) - len(missed)} of {len(bars)} bars reached, {len(missed)} missed.</p>'


def _table(rows: Iterable[Sequence[str]], header: Sequence[str] = ()) -> Iterator[str]:
    yield "<table>"
    if header:
        yield f"<tr>{''.join(f'<th>{escape(cell)}</th>' for cell in header)}</tr>"
    for row in rows:
        yield f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>"
    yield "</table>"


def _machine(report: Mapping[str, Any], parts: Parts) -> Iterator[str]:
    yield "<h2>Machine, and modes in force</h2>"
    result = parts.get("modes", {}).get("result")
    facts = {**report["machine"], **(result["facts"] if result else {})}
    yield from _table((name, str(value)) for name, value in facts.items())
    if result:
        yield "<details><summary>Modes in force, where they are not simply what was asked for, as usnet-ctl doctor has"
        yield "them from each server</summary>"
        yield from _table(_modes(result["servers"]), ("what", "asked", "in force", "because", "of"))
        yield "</details>"


def _modes(servers: Mapping[str, Sequence[Mapping[str, Any]]]) -> Iterator[Sequence[str]]:
    """What several say in the same words is one row."""
    said: dict[tuple[str, str, str, str], list[str]] = {}
    for server, findings in servers.items():
        for one in findings:
            differs = not one["ok"] or one["reason"] or one["asked"] != one["in_force"]
            if differs and one["what"] not in WITHOUT_INFLUENCE:
                said.setdefault((one["what"], one["asked"], one["in_force"], one["reason"]), []).append(server)
    for row, names in sorted(said.items()):
        yield (*row, "all" if len(names) == len(servers) else ", ".join(names))


def parts_of(picture: Picture, parts: Parts) -> list[str]:
    """Names of those that it shows."""
    return [
        name
        for name in parts
        if any(name.startswith(one) if one.endswith("-") else name == one for one in picture.parts)
    ]


def _picture(picture: Picture, svg: str | None, parts: Parts) -> Iterator[str]:
    yield f'<h2 id="{picture.name}">{escape(picture.title)}</h2>'
    yield f"<p>{escape(picture.text)}</p>"
    names = parts_of(picture, parts)
    if svg is None:
        reasons = [parts[name]["missing"] for name in names if "missing" in parts[name]] or ["it was not measured"]
        yield f'<p class="missed">Left out: {escape(reasons[0])}</p>'
        return
    yield f"<figure>{svg}<figcaption>"
    commands = "\n".join(parts[name]["command"] for name in names if "result" in parts[name])
    yield f"<pre>{escape(commands)}</pre>"
    files = (f"{picture.name}.csv", f"{picture.name}.png", f"{picture.name}-dark.png")
    links = ", ".join(f'<a href="{file}">{file}</a>' for file in files)
    yield f'<p class="files">{links}</p></figcaption></figure>'


def _part(name: str, part: Mapping[str, Any]) -> Iterator[str]:
    yield f"<details><summary>{escape(name)}: <code>{escape(part['command'])}</code></summary>"
    if "missing" in part:
        yield f'<p class="missed">Left out: {escape(part["missing"])}</p>'
    else:
        yield f"<pre>{''.join(map(_line, part['text'].splitlines(keepends=True)))}</pre>"
    yield "</details>"


def _line(text: str) -> str:
    """A bar that was missed stands out."""
    is_missed = text.startswith("aim: ") and text.rstrip().endswith(": missed")
    return f'<span class="missed">{escape(text)}</span>' if is_missed else escape(text)
