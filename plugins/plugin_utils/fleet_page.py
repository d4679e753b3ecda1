# Copyright (c) 2026, the slipway.node authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The content of the fleet's page: the findings as the template shows them, and the nodes as its script reads them."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ansible_collections.slipway.node.plugins.plugin_utils.fleet import STATUSES, VARYING, Group, alike, groups_of, reported

# The page shows this many texts of a group, and characters of a text; fleet.json has all.
TEXTS = 5
CHARACTERS = 400
# Where a text of the page's data has a part of the node's own, and what separates found, expected and remedy.
PLACE = "\ue000"
SEPARATOR = "\ue001"
# Characters that break lines, reorder text, or can't be written; and the two above.
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ue000\ue001]+")
# The last number before the first dot, or the last one of an IPv4 address.
NUMBER = re.compile(r"^((?:[0-9]+\.){3}|[^.]*?)([0-9]+)((?:[^0-9.][^0-9.]*)?(?:\..*)?)$", re.DOTALL)


def page_of(fleet: Mapping[str, Any], script: str, style: str) -> dict[str, Any]:
    """Return what the template shows. ``script`` and ``style`` are those of the page, for its content security policy."""
    groups = groups_of(fleet["nodes"])
    versions = Counter(str(node["version"]) for node in fleet["nodes"] if node["version"])
    return {
        "date": fleet["date"].replace("T", " ").replace("Z", " UTC"),
        "duration": "" if fleet["seconds"] is None else duration(fleet["seconds"]),
        "total": f"{len(fleet['nodes']):,}",
        "bars": list(_bars(fleet["summary"], len(fleet["nodes"]))),
        "versions": [{"version": clean(one), "count": f"{count:,}"} for one, count in versions.most_common()],
        "groups": [_shown(group) for group in groups],
        "data": escaped(json.dumps(_data(fleet, groups), ensure_ascii=False, separators=(",", ":"))),
        "script_hash": _hash(script),
        "style_hash": _hash(style),
    }


def duration(seconds: int) -> str:
    """Return seconds for people, in at most two units."""
    minutes, rest = divmod(seconds, 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def escaped(text: str) -> str:
    """Return JSON in which nothing ends the script element that contains it."""
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def folded(names: Iterable[str]) -> str:
    """Return names in one line; those that differ in the last number before a dot only are a range: ``node-[01-17,20]``."""
    ranges: dict[tuple[str, str, int], list[int]] = {}
    plain = []
    for name in map(clean, names):
        match = NUMBER.match(name)
        if match and len(match[2]) < 16:
            # Numbers with leading zeros have a width; the others have none.
            width = len(match[2]) if match[2].startswith("0") and len(match[2]) > 1 else 0
            ranges.setdefault((match[1], match[3], width), []).append(int(match[2]))
        else:
            plain.append(name)
    _join_widths(ranges)
    return ", ".join(
        [*(f"{before}{_runs(sorted(numbers), width)}{after}" for (before, after, width), numbers in ranges.items()), *plain]
    )


def _join_widths(ranges: dict[tuple[str, str, int], list[int]]) -> None:
    """Put numbers that fill the width without leading zeros, as 0099 and 0100 do, with those that have them."""
    for before, after, width in [key for key in ranges if key[2]]:
        rest = ranges.get((before, after, 0), [])
        fitting = [number for number in rest if len(str(number)) == width]
        if fitting:
            ranges[before, after, width] += fitting
            ranges[before, after, 0] = [number for number in rest if len(str(number)) != width]
            if not ranges[before, after, 0]:
                del ranges[before, after, 0]


def _runs(numbers: Sequence[int], width: int) -> str:
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    shown = ",".join(f"{first:0{width}}" if first == last else f"{first:0{width}}-{last:0{width}}" for first, last in runs)
    return shown if len(numbers) == 1 else f"[{shown}]"


def _bars(summary: Mapping[str, int], total: int) -> Iterator[dict[str, Any]]:
    """Yield the counts of the statuses with their places in a bar that is 1000 wide."""
    before = 0
    for status, count in summary.items():
        place, end = before * 1000 / total, (before + count) * 1000 / total
        yield {"status": status, "count": f"{count:,}", "x": f"{place:.2f}", "width": f"{end - place:.2f}"}
        before += count


def clean(text: str) -> str:
    """Return a text in one line, without characters that would change how the page reads."""
    return CONTROL.sub(" ", text).strip()


def _short(text: str) -> str:
    text = clean(text)
    return text if len(text) <= CHARACTERS else f"{text[:CHARACTERS]} …"


def _shown(group: Group) -> dict[str, Any]:
    def shown(parts: tuple[str, str, str], nodes: Sequence[str]) -> dict[str, Any]:
        found, expected, remedy = (_short(part) for part in parts)
        return {"found": found, "expected": expected, "remedy": remedy, "count": f"{len(nodes):,}", "names": folded(nodes)}

    texts = [shown(text.parts, text.nodes) for text in group.texts[:TEXTS]]
    others = group.texts[TEXTS:]
    return {
        "check": clean(group.check),
        "status": group.status,
        "count": f"{len(group.nodes):,}",
        "unit": "node" if len(group.nodes) == 1 else "nodes",
        "texts": texts,
        "others": len(others),
        "more": len(group.texts) - 1,
        "other_count": f"{sum(len(text.nodes) for text in others):,}",
        "other_names": folded(name for text in others for name in text.nodes),
    }


def _data(fleet: Mapping[str, Any], groups: Sequence[Group]) -> dict[str, Any]:
    """Return the nodes for the page's script, each text and each set of checks once.

    ``nodes``: name, status, version, set of checks, and the findings that are not ok: the number of a text, or a list of the
    number and the parts of the node's own. ``texts``: group, and the text with the places of these parts.
    """
    checks, places = fleet["checks"], {check: place for place, check in enumerate(fleet["checks"])}
    versions = sorted({str(node["version"]) for node in fleet["nodes"] if node["version"]})
    texts = [(number, text) for number, group in enumerate(groups) for text in group.texts]
    index = {_key(groups[number].check, groups[number].status, text.parts): place for place, (number, text) in enumerate(texts)}
    found = [
        [(index[_key(check, status, parts)], VARYING.findall(_joined(parts))) for check, status, parts in reported(node)]
        for node in fleet["nodes"]
    ]
    varies = _varies(found)
    sets: dict[tuple[int, ...], int] = {}
    nodes = []
    for node, entries in zip(fleet["nodes"], found):
        checked = sets.setdefault(tuple(places[check] for check in checks if check in node["findings"]), len(sets))
        version = versions.index(str(node["version"])) if node["version"] else -1
        shown = [_entry(number, numbers, varies[number]) for number, numbers in entries]
        nodes.append([clean(node["name"]), STATUSES.index(node["worst"]), version, checked, shown])
    return {
        "statuses": STATUSES,
        "checks": [clean(check) for check in checks],
        "versions": [clean(version) for version in versions],
        "sets": list(sets),
        "groups": [[places.get(group.check, -1), STATUSES.index(group.status)] for group in groups],
        "texts": [[number, _template(_joined(text.parts), varies[place])] for place, (number, text) in enumerate(texts)],
        "nodes": nodes,
    }


def _varies(found: Iterable[Sequence[tuple[int, list[str]]]]) -> dict[int, list[bool]]:
    """Return for each text in which of its numbers the nodes differ."""
    rows: dict[int, list[list[str]]] = {}
    for entries in found:
        for number, numbers in entries:
            rows.setdefault(number, []).append(numbers)
    return {number: [len(set(column)) > 1 for column in zip(*columns)] for number, columns in rows.items()}


def _entry(number: int, numbers: Sequence[str], varies: Sequence[bool]) -> Any:
    own = [one for one, differs in zip(numbers, varies) if differs]
    return [number, *own] if own else number


def _key(check: str, status: str, parts: tuple[str, str, str]) -> tuple[str, ...]:
    return (check, status, *(alike(part) for part in parts))


def _joined(parts: tuple[str, str, str]) -> str:
    return SEPARATOR.join(_short(part) for part in parts)


def _template(text: str, varies: Sequence[bool]) -> str:
    differs = iter(varies)
    return VARYING.sub(lambda match: PLACE if next(differs, False) else match[0], text)


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
