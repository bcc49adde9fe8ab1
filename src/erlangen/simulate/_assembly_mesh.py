"""Meshes of `Assembly`: half-edges, energies and surgery, compiled by numba.

Half-edge ``3 f + s`` is side s of face f. Meshes are small, so that everything is found by looking through all half-edges.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from numba import njit

_jit: Any = njit  # its stubs do not know all options
inner = _jit(no_cpython_wrapper=True, no_cfunc_wrapper=True, error_model="numpy", _nrt=False)
"""For functions that are called from compiled ones alone. Nothing is allocated in them, so that nothing is counted (`_nrt`): half
the time of steps, and a third less to compile."""


class Mesh(NamedTuple):
    """Vertices ``[V, 3]``; by half-edge: where it starts, and its twin or -1; by face its species; numbers of vertices, faces."""

    pos: Any
    corner: Any
    twin: Any
    kind: Any
    size: Any


class Rules(NamedTuple):
    """Tables by species (labels, potential, rotations) and by label (partner, length, angle, bond); rates of moves; constants."""

    subunits: Any
    potential: Any
    turns: Any
    partner: Any
    length: Any
    angle: Any
    bond: Any
    rate: Any
    stretch: float
    bend: float
    exclusion: float
    step: float
    reach: float
    fuse: float


@inner
def following(h: int) -> int:
    return h + 1 if h % 3 < 2 else h - 2


@inner
def label(m: Mesh, r: Rules, h: int) -> int:
    return r.subunits[m.kind[h // 3], h % 3]


# --- energies ---------------------------------------------------------------------------------------------------------
@inner
def distance(m: Mesh, a: int, b: int) -> float:
    x, y, z = m.pos[a, 0] - m.pos[b, 0], m.pos[a, 1] - m.pos[b, 1], m.pos[a, 2] - m.pos[b, 2]
    return math.sqrt(x * x + y * y + z * z)


@inner
def stretched(m: Mesh, r: Rules, h: int) -> float:
    """Energy of a side; infinite where it is longer or shorter than at rest by half."""
    rest = r.length[label(m, r, h)]
    extra = distance(m, m.corner[h], m.corner[following(h)]) - rest
    return math.inf if abs(extra) > rest / 2 else r.stretch * extra * extra / 2


@inner
def bonded(m: Mesh, r: Rules, h: int) -> float:
    """Energy of a bond, by one of its half-edges."""
    t = m.twin[h]
    u, v, w = m.corner[h], m.corner[following(h)], m.corner[following(following(h))]
    x = m.corner[following(following(t))]
    e0, e1, e2 = m.pos[v, 0] - m.pos[u, 0], m.pos[v, 1] - m.pos[u, 1], m.pos[v, 2] - m.pos[u, 2]
    a0, a1, a2 = m.pos[w, 0] - m.pos[u, 0], m.pos[w, 1] - m.pos[u, 1], m.pos[w, 2] - m.pos[u, 2]
    b0, b1, b2 = m.pos[x, 0] - m.pos[u, 0], m.pos[x, 1] - m.pos[u, 1], m.pos[x, 2] - m.pos[u, 2]
    n0, n1, n2 = e1 * a2 - e2 * a1, e2 * a0 - e0 * a2, e0 * a1 - e1 * a0
    k0, k1, k2 = b1 * e2 - b2 * e1, b2 * e0 - b0 * e2, b0 * e1 - b1 * e0
    along = math.sqrt(e0 * e0 + e1 * e1 + e2 * e2)
    sine = ((n1 * k2 - n2 * k1) * e0 + (n2 * k0 - n0 * k2) * e1 + (n0 * k1 - n1 * k0) * e2) / along
    one, two = label(m, r, h), label(m, r, t)
    bent = math.atan2(sine, n0 * k0 + n1 * k1 + n2 * k2) - (r.angle[one] + r.angle[two]) / 2
    return r.bend * bent * bent / 2 + (r.bond[one] + r.bond[two]) / 2


@inner
def touches(m: Mesh, f: int, a: int, b: int) -> bool:
    i, j, k = m.corner[3 * f], m.corner[3 * f + 1], m.corner[3 * f + 2]
    return i in (a, b) or j in (a, b) or k in (a, b)


@inner
def around(m: Mesh, r: Rules, a: int, b: int) -> float:
    """Energy of all faces that touch one of two vertices, with their bonds, each once."""
    total = 0.0
    for f in range(m.size[1]):
        if touches(m, f, a, b):
            for h in range(3 * f, 3 * f + 3):
                total += stretched(m, r, h)
                t = m.twin[h]
                if t >= 0:
                    total += bonded(m, r, h) * (0.5 if touches(m, t // 3, a, b) else 1.0)
    return total


@inner
def of_face(m: Mesh, r: Rules, f: int) -> float:
    """Energy that goes with a face: its sides and its bonds."""
    total = 0.0
    for h in range(3 * f, 3 * f + 3):
        total += stretched(m, r, h)
        if m.twin[h] >= 0:
            total += bonded(m, r, h)
    return total


@inner
def both(m: Mesh, r: Rules, a: int, b: int, c: int, d: int) -> float:
    """What the sum of `around` of two pairs of vertices counts twice."""
    total = 0.0
    for f in range(m.size[1]):
        here, there = touches(m, f, a, b), touches(m, f, c, d)
        for h in range(3 * f, 3 * f + 3):
            if here and there:
                total += stretched(m, r, h)
            t = m.twin[h]
            if t > h and (here or touches(m, t // 3, a, b)) and (there or touches(m, t // 3, c, d)):
                total += bonded(m, r, h)
    return total


@inner
def overlaps(m: Mesh, r: Rules, face: int, a: int, b: int) -> bool:
    """Whether the middle of a face, or of one that touches one of two vertices, is too near to that of another face."""
    least = (6 * r.exclusion) ** 2  # of sums of three corners
    for f in range(m.size[1]):
        if f == face or touches(m, f, a, b):
            for g in range(m.size[1]):
                square = 0.0
                for d in range(3):
                    apart = 0.0
                    for s in range(3):
                        apart += m.pos[m.corner[3 * f + s], d] - m.pos[m.corner[3 * g + s], d]
                    square += apart * apart
                if square < least and g != f:
                    return True
    return False


# --- surgery ----------------------------------------------------------------------------------------------------------
@inner
def bind(m: Mesh, r: Rules, h: int, t: int) -> bool:
    """Make two half-edges twins; False where their labels are no pair."""
    m.twin[h], m.twin[t] = t, h
    return r.partner[label(m, r, h)] == label(m, r, t)


@inner
def release(m: Mesh, h: int) -> None:
    m.twin[m.twin[h]] = -1
    m.twin[h] = -1


@inner
def drop_vertex(m: Mesh, v: int) -> None:
    """Take a vertex out that no face has; the last one gets its number."""
    last = m.size[0] - 1
    m.size[0] = last
    for d in range(3):
        m.pos[v, d] = m.pos[last, d]
    for h in range(3 * m.size[1]):
        if m.corner[h] == last:
            m.corner[h] = v


@inner
def drop_face(m: Mesh, f: int) -> None:
    for h in range(3 * f, 3 * f + 3):
        if m.twin[h] >= 0:
            release(m, h)
    last = m.size[1] - 1
    m.size[1] = last
    m.kind[f] = m.kind[last]
    for s in range(3):
        m.corner[3 * f + s] = m.corner[3 * last + s]
        t = m.twin[3 * last + s]
        m.twin[3 * f + s] = t
        if t >= 0:
            m.twin[t] = 3 * f + s


@inner
def rename(m: Mesh, old: int, new: int) -> None:
    for h in range(3 * m.size[1]):
        if m.corner[h] == old:
            m.corner[h] = new


@inner
def neighbours(m: Mesh, a: int, b: int) -> int:
    """How many vertices have edges to both; -1 where an edge joins the two."""
    shared = 0
    for v in range(m.size[0]):
        to_a, to_b = False, False
        for h in range(3 * m.size[1]):
            u, w = m.corner[h], m.corner[following(h)]
            if (u == a and w == b) or (u == b and w == a):
                return -1
            to_a |= (u == v and w == a) or (u == a and w == v)
            to_b |= (u == v and w == b) or (u == b and w == v)
        shared += to_a and to_b
    return shared


@inner
def cut(m: Mesh, h: int, stop: int) -> int:
    """Give the faces around the start of h, from that of h counterclockwise to `stop` or the boundary, a vertex of their own."""
    new = m.size[0]
    m.size[0] = new + 1
    while True:
        m.corner[h] = new
        h = m.twin[following(following(h))]
        if h < 0 or h == stop:
            return new


@inner
def cut_back(m: Mesh, h: int) -> int:
    """The same clockwise, to the boundary."""
    new = m.size[0]
    m.size[0] = new + 1
    while True:
        m.corner[h] = new
        h = m.twin[h]
        if h < 0:
            return new
        h = following(h)


@inner
def spread(m: Mesh, r: Rules, old: int, new: int, rng: Any) -> None:
    """Put two vertices apart, evenly in what fusion takes together, with their middle where the old one was."""
    while True:
        x, y, z = 2 * rng.random() - 1, 2 * rng.random() - 1, 2 * rng.random() - 1
        if x * x + y * y + z * z < 1:
            break
    for d, part in enumerate((x, y, z)):
        middle = m.pos[old, d]
        m.pos[old, d], m.pos[new, d] = middle + r.fuse / 2 * part, middle - r.fuse / 2 * part


@inner
def merge(m: Mesh, kept: int, gone: int) -> None:
    for d in range(3):
        m.pos[kept, d] = (m.pos[kept, d] + m.pos[gone, d]) / 2
    rename(m, gone, kept)


@inner
def volume(r: Rules) -> float:
    """Of the separations a - b that fusion takes together. With their middle they have the measure of a and b."""
    return math.log(4 * math.pi / 3 * r.fuse**3)
