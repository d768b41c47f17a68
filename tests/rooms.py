"""A picture of the rooms, made from what the modules import: ``python -m tests.rooms > docs/rooms.svg``.

A room stands above all rooms that it imports from.  A line leads from a room to one that it imports from,
unless it gets there by way of another.  ``values`` has no lines: nearly every room imports from it.  The
rooms of ``simulation`` are drawn as one; the package and the plugin hand names on alone, and are not drawn.
"""

from __future__ import annotations

from collections import Counter
from html import escape

from tests.test_house import ROOMS, imports, read_package, room_of

WIDTH, HEIGHT, GAP, ROW = 118, 24, 40, 42  # of a box, between boxes, from row to row
PAGE, MARGIN = 520, 10
EVERYWHERE = "values"
DRAWN = [room for room in ROOMS if "simulation." not in room and room not in ("package", "plugin")]


def drawn_as(module: str) -> str | None:
    """The room of the picture in which *module* is, if it is in one."""
    room = room_of(module) or ""
    room = room if room in DRAWN else room.partition(".")[0]
    return room if room in DRAWN else None


def edges() -> dict[str, set[str]]:
    """The rooms, the lowest first, and the rooms that each imports from."""
    package = read_package()
    found: dict[str, set[str]] = {room: set() for room in DRAWN}
    for module, _, target in imports(package):
        room, there = drawn_as(module), drawn_as(target) if target in package else None
        if room is not None and there is not None and DRAWN.index(there) < DRAWN.index(room):
            found[room].add(there)
    return found


def reached(room: str, graph: dict[str, set[str]]) -> set[str]:
    """The rooms that *room* gets to, by way of others or not."""
    found: set[str] = set()
    for there in graph[room]:
        found |= {there} | reached(there, graph)
    return found


def reduced(graph: dict[str, set[str]]) -> dict[str, set[str]]:
    """*graph* without the edges that lead where others lead as well."""
    return {
        room: {one for one in targets if not any(one in reached(other, graph) for other in targets - {one})}
        for room, targets in graph.items()
    }


def rows(graph: dict[str, set[str]]) -> list[list[str]]:
    """The rooms of each row, the lowest row first."""
    level: Counter[str] = Counter()
    for room in DRAWN:  # the lowest first
        level[room] = max((level[one] + 1 for one in graph[room]), default=0)
    for room in set(DRAWN) - {EVERYWHERE}:  # one that imports nothing stands right below its importers
        if not graph[room]:
            level[room] = min(level[one] for one in DRAWN if room in graph[one]) - 1
    return [[room for room in DRAWN if level[room] == row] for row in range(max(level.values()) + 1)]


def picture() -> str:
    """The picture as SVG."""
    graph = edges()
    lines = reduced(graph)
    stacked = rows(graph)
    height = len(stacked) * ROW + MARGIN
    place: dict[str, tuple[int, int]] = {}
    for row, rooms in enumerate(stacked):
        left = (PAGE - len(rooms) * WIDTH - (len(rooms) - 1) * GAP) // 2
        for column, room in enumerate(rooms):
            place[room] = (left + column * (WIDTH + GAP), height - (row + 1) * ROW)
    drawn = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {PAGE} {height}" font-family="sans-serif">',
        f'<rect width="{PAGE}" height="{height}" fill="#ffffff"/>',
    ]
    for room, targets in lines.items():
        for target in sorted(targets - {EVERYWHERE}):
            (x, y), (there_x, there_y) = place[room], place[target]
            drawn.append(
                f'<line x1="{x + WIDTH // 2}" y1="{y + HEIGHT}" x2="{there_x + WIDTH // 2}" '
                f'y2="{there_y}" stroke="#9aa5b1"/>'
            )
    for room, (x, y) in place.items():
        drawn += [
            f'<rect x="{x}" y="{y}" width="{WIDTH}" height="{HEIGHT}" rx="4" fill="#eef3f8" '
            'stroke="#52606d"/>',
            f'<text x="{x + WIDTH // 2}" y="{y + 16}" font-size="12" text-anchor="middle" '
            f'fill="#1f2933">{escape(room)}</text>',
        ]
    return "\n".join([*drawn, "</svg>", ""])


if __name__ == "__main__":
    print(picture(), end="")
