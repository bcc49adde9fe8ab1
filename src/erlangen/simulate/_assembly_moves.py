"""Moves of `Assembly`, compiled by numba.

Each function of a move changes the mesh and returns the change of energy and the logarithm of the ratio with which the move is
accepted, minus infinity where the move is none; `attempt` puts the mesh back where it is refused. Every site of a move is tried
with the same probability as the site of its one reverse, and the ratios of the two have the product 1.
"""

from __future__ import annotations

import math
import zlib
from pathlib import Path
from typing import Any

from numba import njit

from erlangen.simulate import _assembly_mesh
from erlangen.simulate._assembly_mesh import (
    Mesh,
    Rules,
    around,
    bind,
    both,
    cut,
    cut_back,
    distance,
    drop_face,
    drop_vertex,
    following,
    inner,
    label,
    merge,
    neighbours,
    of_face,
    overlaps,
    release,
    spread,
    volume,
)

SWEEP, INSERT, REMOVE, WEDGE, UNWEDGE, PLUG, UNPLUG, FUSE, SPLIT, FUSE2, SPLIT2, JOIN, PART = range(13)


# --- moves ------------------------------------------------------------------------------------------------------------
@inner
def place(m: Mesh, r: Rules, h: int, t: int) -> tuple[float, float, float]:
    """Where a new vertex belongs whose face has the side t on the open side of h: lengths and angle at rest."""
    u, v, w = m.corner[h], m.corner[following(h)], m.corner[following(following(h))]
    base = distance(m, u, v)
    # The side after t begins at u.
    one, two = r.length[label(m, r, following(t))], r.length[label(m, r, following(following(t)))]
    foot = (one * one - two * two + base * base) / (2 * base)
    high = math.sqrt(max(one * one - foot * foot, 1e-4))
    angle = (r.angle[label(m, r, h)] + r.angle[label(m, r, t)]) / 2
    c, s = high * math.cos(angle), high * math.sin(angle)
    e0, e1, e2 = (
        (m.pos[v, 0] - m.pos[u, 0]) / base,
        (m.pos[v, 1] - m.pos[u, 1]) / base,
        (m.pos[v, 2] - m.pos[u, 2]) / base,
    )
    a0, a1, a2 = m.pos[w, 0] - m.pos[u, 0], m.pos[w, 1] - m.pos[u, 1], m.pos[w, 2] - m.pos[u, 2]
    n0, n1, n2 = e1 * a2 - e2 * a1, e2 * a0 - e0 * a2, e0 * a1 - e1 * a0
    size = math.sqrt(n0 * n0 + n1 * n1 + n2 * n2)
    n0, n1, n2 = n0 / size, n1 / size, n2 / size
    # Ahead in the plane of the old face, which is along e x n, and down from it.
    return (
        m.pos[u, 0] + foot * e0 + c * (e1 * n2 - e2 * n1) - s * n0,
        m.pos[u, 1] + foot * e1 + c * (e2 * n0 - e0 * n2) - s * n1,
        m.pos[u, 2] + foot * e2 + c * (e0 * n1 - e1 * n0) - s * n2,
    )


@inner
def density(m: Mesh, r: Rules, h: int, t: int, v: int) -> float:
    """Logarithm of the density with which insertion puts the vertex v where it is."""
    x, y, z = place(m, r, h, t)
    square = (m.pos[v, 0] - x) ** 2 + (m.pos[v, 1] - y) ** 2 + (m.pos[v, 2] - z) ** 2
    return -square / (2 * r.reach**2) - 1.5 * math.log(2 * math.pi * r.reach**2)


@inner
def insert(m: Mesh, r: Rules, h: int, kind: int, turn: int, rng: Any) -> tuple[float, float]:
    """A face with a new vertex, bound to the open half-edge h by its side `turn`."""
    f, v = m.size[1], m.size[0]
    m.size[0], m.size[1] = v + 1, f + 1
    m.kind[f] = kind
    t = 3 * f + turn
    m.corner[t], m.corner[following(t)], m.corner[following(following(t))] = m.corner[following(h)], m.corner[h], v
    m.twin[following(t)] = m.twin[following(following(t))] = -1
    fits = bind(m, r, h, t)
    x, y, z = place(m, r, h, t)
    m.pos[v, 0] = x + r.reach * rng.standard_normal()
    m.pos[v, 1] = y + r.reach * rng.standard_normal()
    m.pos[v, 2] = z + r.reach * rng.standard_normal()
    change = of_face(m, r, f)
    refused = not fits or overlaps(m, r, f, -1, -1)
    return change, -math.inf if refused else r.potential[kind] - change - density(m, r, h, t, v)


@inner
def remove(m: Mesh, r: Rules, f: int) -> tuple[float, float]:
    """Take out a face that is bound by one side, and the vertex that no other has."""
    t = 3 * f
    while m.twin[t] < 0:
        t += 1
    v = m.corner[following(following(t))]
    change = -of_face(m, r, f)
    ratio = -change - r.potential[m.kind[f]] + density(m, r, m.twin[t], t, v)
    drop_face(m, f)
    drop_vertex(m, v)
    return change, ratio


@inner
def fill(m: Mesh, r: Rules, h: int, kind: int, turn: int, out: Any, whole: bool) -> tuple[float, float]:
    """A face between the open half-edge h and the next one, bound to both, or to all three where they are a hole."""
    f, g = m.size[1], out[m.corner[following(h)]]
    u, v, w = m.corner[h], m.corner[g], m.corner[following(g)]
    if not whole and neighbours(m, u, w) == -1:
        return 0.0, -math.inf
    m.size[1] = f + 1
    m.kind[f] = kind
    t = 3 * f + turn
    m.corner[t], m.corner[following(t)], m.corner[following(following(t))] = v, u, w
    m.twin[following(t)] = -1
    fits = bind(m, r, h, t) & bind(m, r, g, following(following(t)))
    if whole:
        fits &= bind(m, r, out[w], following(t))
    change = of_face(m, r, f)
    refused = not fits or overlaps(m, r, f, -1, -1)
    return change, -math.inf if refused else r.potential[kind] - change


@inner
def empty(m: Mesh, r: Rules, f: int) -> tuple[float, float]:
    """Take out a face all of whose vertices others have."""
    change = -of_face(m, r, f)
    ratio = -change - r.potential[m.kind[f]]
    drop_face(m, f)
    return change, ratio


@inner
def fuse(m: Mesh, r: Rules, h: int, out: Any, twice: bool) -> tuple[float, float]:
    """Close the open half-edge h with the next one; where `twice`, the other two of a hole of four as well."""
    g = out[m.corner[following(h)]]
    a, c = m.corner[h], m.corner[following(g)]
    k = out[c]
    if neighbours(m, a, c) != (2 if twice else 1):
        return 0.0, -math.inf
    before = around(m, r, a, c)
    fits = bind(m, r, h, g)
    if twice:
        fits &= bind(m, r, k, out[m.corner[following(k)]])
    merge(m, a, c)
    change = around(m, r, a, a) - before
    refused = not fits or overlaps(m, r, -1, a, a)
    drop_vertex(m, c)
    return change, -math.inf if refused else -change - volume(r)


@inner
def split(m: Mesh, r: Rules, h: int, other: int, rng: Any) -> tuple[float, float]:
    """Open h, whose end is within, at its start; with another half-edge of the same start where that is within, too."""
    x = m.corner[h]
    before = around(m, r, x, x)
    new = cut(m, h, other)
    release(m, h)
    if other >= 0:
        release(m, other)
    spread(m, r, x, new, rng)
    change = around(m, r, x, new) - before
    return change, -math.inf if overlaps(m, r, -1, x, new) else -change + volume(r)


@inner
def join(m: Mesh, r: Rules, h: int, g: int, out: Any) -> tuple[float, float]:
    """Close two open half-edges that have no vertex in common but are on one boundary, which becomes two."""
    a, b, c, d = m.corner[h], m.corner[following(h)], m.corner[g], m.corner[following(g)]
    k = out[b]
    while k != g and k != h:
        k = out[m.corner[following(k)]]
    if k == h or neighbours(m, a, d) != 0 or neighbours(m, b, c) != 0 or neighbours(m, a, c) == -1:
        return 0.0, -math.inf
    if neighbours(m, b, d) == -1:
        return 0.0, -math.inf
    before = around(m, r, a, d) + around(m, r, b, c) - both(m, r, a, d, b, c)
    fits = bind(m, r, h, g)
    merge(m, a, d)
    merge(m, b, c)
    change = around(m, r, a, b) - before
    refused = not fits or overlaps(m, r, -1, a, b)
    drop_vertex(m, max(c, d))
    drop_vertex(m, min(c, d))
    return change, -math.inf if refused else -change - 2 * volume(r)


@inner
def part(m: Mesh, r: Rules, h: int, out: Any, rng: Any) -> tuple[float, float]:
    """Open h, both of whose ends are on boundaries, which must be two."""
    x, y, t = m.corner[h], m.corner[following(h)], m.twin[h]
    k = out[x]
    while True:
        if m.corner[k] == y:
            return 0.0, -math.inf
        k = out[m.corner[following(k)]]
        if k == out[x]:
            break
    before = around(m, r, x, y)
    at_x, at_y = cut(m, h, -1), cut_back(m, following(h))
    m.twin[h] = m.twin[t] = -1
    spread(m, r, x, at_x, rng)
    spread(m, r, y, at_y, rng)
    change = around(m, r, x, at_x) + around(m, r, y, at_y) - both(m, r, x, at_x, y, at_y) - before
    refused = overlaps(m, r, -1, x, at_x) or overlaps(m, r, -1, y, at_y)
    return change, -math.inf if refused else -change + 2 * volume(r)


# --- which moves there are --------------------------------------------------------------------------------------------
@inner
def borders(m: Mesh, out: Any) -> int:
    """For each vertex the open half-edge that starts there, or -1; how many there are."""
    count = 0
    for v in range(m.size[0]):
        out[v] = -1
    for h in range(3 * m.size[1]):
        if m.twin[h] < 0:
            out[m.corner[h]] = h
            count += 1
    return count


@inner
def sites(m: Mesh, r: Rules, move: int, kind: int, out: Any, found: Any) -> int:
    """List where a move can be tried: half-edges or faces, in pairs for moves that need two; how many there are."""
    n = 0
    many = 3 * m.size[1]
    if move in (REMOVE, UNWEDGE, UNPLUG):
        for f in range(m.size[1]):
            if m.kind[f] == kind:
                bound, within, h = 0, 0, -1
                for k in range(3 * f, 3 * f + 3):
                    bound += m.twin[k] >= 0
                    within += out[m.corner[k]] < 0
                    if m.twin[k] < 0:
                        h = k
                inner = bound == 2 and out[m.corner[following(following(h))]] < 0
                if (
                    (move == REMOVE and bound == 1)
                    or (move == UNWEDGE and inner)
                    or (move == UNPLUG and bound == 3 and within == 3)
                ):
                    found[n, 0] = f
                    n += 1
        return n
    for h in range(many):
        u, v, t = m.corner[h], m.corner[following(h)], m.twin[h]
        if t < 0 and move <= JOIN:
            g = out[v]
            w = m.corner[following(g)]
            k = out[w]
            x = m.corner[following(k)]
            if move == JOIN:
                for g in range(h + 1, many):
                    end = m.corner[following(g)]
                    apart = m.twin[g] < 0 and m.corner[g] != v and end != u
                    if (
                        n < len(found)
                        and apart
                        and distance(m, u, end) < r.fuse
                        and distance(m, v, m.corner[g]) < r.fuse
                    ):
                        found[n, 0], found[n, 1] = h, g
                        n += 1
            elif (
                move in (INSERT, WEDGE)
                or (move == PLUG and x == u and h < g and h < k and m.size[1] > 1)
                or (move == FUSE and w != u and distance(m, u, w) < r.fuse)
                or (move == FUSE2 and m.corner[following(out[x])] == u and h < k and distance(m, u, w) < r.fuse)
            ):
                found[n, 0] = h
                n += 1
        elif t >= 0:
            if out[u] >= 0 and ((move == PART and h < t and out[v] >= 0) or (move == SPLIT and out[v] < 0)):
                found[n, 0] = h
                n += 1
            elif move == SPLIT2 and out[u] < 0 and out[v] < 0:
                for g in range(h + 1, many):
                    if n < len(found) and m.corner[g] == u and out[m.corner[following(g)]] < 0:
                        found[n, 0], found[n, 1] = h, g
                        n += 1
    return n


@inner
def apply(
    m: Mesh, r: Rules, move: int, h: int, g: int, kind: int, turn: int, out: Any, rng: Any
) -> tuple[float, float]:
    """The move, with the change of energy and the logarithm of its ratio."""
    if move == INSERT:
        return insert(m, r, h, kind, turn, rng)
    if move == REMOVE:
        return remove(m, r, h)
    if move in (WEDGE, PLUG):
        return fill(m, r, h, kind, turn, out, move == PLUG)
    if move in (UNWEDGE, UNPLUG):
        return empty(m, r, h)
    if move in (FUSE, FUSE2):
        return fuse(m, r, h, out, move == FUSE2)
    if move in (SPLIT, SPLIT2):
        return split(m, r, h, g if move == SPLIT2 else -1, rng)
    if move == JOIN:
        return join(m, r, h, g, out)
    return part(m, r, h, out, rng)


# --- steps ------------------------------------------------------------------------------------------------------------
@inner
def copy(m: Mesh, to: Mesh) -> None:
    """What moves may change."""
    to.size[0], to.size[1] = m.size[0], m.size[1]
    for v in range(m.size[0]):
        for d in range(3):
            to.pos[v, d] = m.pos[v, d]
    for h in range(3 * m.size[1]):
        to.corner[h], to.twin[h] = m.corner[h], m.twin[h]
    for f in range(m.size[1]):
        to.kind[f] = m.kind[f]


@inner
def sweep(m: Mesh, r: Rules, rng: Any) -> int:
    """As many attempts as there are vertices to move one of them."""
    accepted = 0
    for _ in range(m.size[0]):
        v = int(rng.random() * m.size[0])
        x, y, z = m.pos[v, 0], m.pos[v, 1], m.pos[v, 2]
        before = around(m, r, v, v)
        for d in range(3):
            m.pos[v, d] += r.step * (2 * rng.random() - 1)
        change = around(m, r, v, v) - before
        if math.log(1 - rng.random()) < -change and not overlaps(m, r, -1, v, v):
            accepted += 1
        else:
            m.pos[v, 0], m.pos[v, 1], m.pos[v, 2] = x, y, z
    return accepted


@inner
def attempt(
    m: Mesh, r: Rules, saved: Mesh, out: Any, found: Any, rng: Any, move: int, tried: Any, high: Any, last: Any
) -> bool:
    """One move of a class, where chance lets it be tried; whether it was made."""
    kind = int(rng.random() * len(r.turns))
    turns = r.turns[kind] if move in (INSERT, WEDGE, PLUG) else 1
    if move in (INSERT, WEDGE, PLUG) and m.size[1] == len(m.kind):
        return False
    borders(m, out)
    count = sites(m, r, move, kind, out, found)
    chance = r.rate[move] * count * turns
    high[move] = max(high[move], chance)
    if rng.random() >= chance:
        return False
    tried[move] += 1
    site = int(rng.random() * count)
    copy(m, saved)
    change, ratio = apply(m, r, move, found[site, 0], found[site, 1], kind, int(rng.random() * turns), out, rng)
    if math.log(1 - rng.random()) < ratio:
        last[0], last[1], last[2] = move, change, ratio
        return True
    copy(saved, m)
    return False


def compiled(version: int) -> Any:
    """The function that makes steps. Numba keeps it, and looks for changes of this file alone; so it is given the version of the
    other one."""

    @njit(cache=True, error_model="numpy")
    def run(
        m: Mesh,
        r: Rules,
        saved: Mesh,
        out: Any,
        found: Any,
        rng: Any,
        steps: int,
        stop: bool,
        tried: Any,
        accepted: Any,
        high: Any,
        last: Any,
    ) -> int:
        """How many of the steps were made until there was no open half-edge, or all."""
        last[3] = version
        for step in range(steps):
            move = int(rng.random() * 13)
            if move == SWEEP:
                tried[move] += m.size[0]
                accepted[move] += sweep(m, r, rng)
            elif attempt(m, r, saved, out, found, rng, move, tried, high, last):
                accepted[move] += 1
                if stop and move in (PLUG, FUSE2) and borders(m, out) == 0:
                    return step + 1
        return steps

    return run


run = compiled(zlib.crc32(Path(_assembly_mesh.__file__).read_bytes()))
