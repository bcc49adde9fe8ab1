"""Complete shells of a design at rest, and assemblies of its subunits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from erlangen.simulate import Assembly, ShellState, fold_angles
from erlangen.systems.physics.magic_shells.method import ShellDesign

CHUNK = 2000
"""Steps after which it is looked whether a shell has grown too large."""


def target_of(design: ShellDesign) -> ShellState:
    """The complete shell: vertices on a sphere, edges of mean length 1, sides of triangles in the order of their species."""
    shell = design.shell
    pos = shell.pos / shell.pos.norm(dim=-1, keepdim=True)
    pos = pos / (pos[shell.edges[:, 0]] - pos[shell.edges[:, 1]]).norm(dim=-1).mean()
    sides, wanted = design.labels.unflatten(0, (-1, 3)), design.subunits[design.kinds]
    rolled = torch.stack([(sides.roll(-s, 1) == wanted).all(1) for s in range(3)]).int().argmax(0)  # [20 T]
    order = (torch.arange(3) + rolled[:, None]) % 3  # new side -> old side
    old = (3 * torch.arange(len(sides))[:, None] + order).flatten()
    return ShellState(pos, shell.faces.gather(1, order), torch.argsort(old)[shell.twins[old]], design.kinds)


def assembly_of(
    design: ShellDesign,
    *,
    stretch: float,
    bend: float,
    binding: float,
    activity: float,
    start: ShellState | None = None,
    **how: Any,
) -> Assembly:
    """Subunits of a design with lengths and angles of the complete shell, at a logarithm of their activities' sum.

    Activities are as the complete shell needs them: that of a species is its share of the triangles.
    """
    target = target_of(design)
    labels = design.subunits[target.species].flatten()
    ends = torch.stack([target.faces, target.faces.roll(-1, 1)], -1).flatten(0, 1)
    lengths = (target.pos[ends[:, 0]] - target.pos[ends[:, 1]]).norm(dim=-1)
    shares = torch.bincount(design.kinds).double() / len(design.kinds)
    return Assembly(
        design.subunits, design.partners, lengths=_mean(lengths, labels),
        angles=_mean(fold_angles(target.pos, target.faces, target.twins), labels), stretch=stretch, bend=bend, binding=binding,
        potentials=activity + shares.log(), start=start, **how,
    )  # fmt: skip


def wrong_vertices(design: ShellDesign, state: ShellState) -> Mapping[str, int]:
    """Inner vertices with another number of triangles than the complete shell has there, on axes of the design and off them."""
    target = target_of(design)
    first = torch.stack([(target.species == kind).nonzero()[0, 0] for kind in range(design.species)])
    corner = target.faces[first]  # a vertex of the shell for each corner of a species
    inner, counts = state.coordination, {"on": 0, "off": 0}
    stands_for = torch.zeros(len(state.pos), dtype=torch.int64)
    stands_for[state.faces.flatten()] = corner[state.species].flatten()
    for v, triangles in enumerate(inner.tolist()):
        like = int(stands_for[v])
        if triangles and triangles != int(design.shell.coordination[like]):
            counts["on" if int(design.vertex_axes[like]) > 1 else "off"] += 1
    return counts


def is_target(design: ShellDesign, state: ShellState) -> bool:
    """Whether a shell is complete: closed, of 20 T triangles, all vertices as they should be."""
    right = not any(wrong_vertices(design, state).values())
    return state.open_sides == 0 and len(state.faces) == 20 * design.shell.T and right


def _mean(values: Tensor, labels: Tensor) -> Tensor:
    """Of half-edges, by label."""
    count = int(labels.max()) + 1
    total = torch.zeros(count, dtype=values.dtype).index_add(0, labels, values)
    return total / torch.bincount(labels, minlength=count)


def grown(design: ShellDesign, steps: int, **how: Any) -> tuple[ShellState, int]:
    """The shell at which growth from one subunit ends, and after how many steps: closed, half as large again as it should be, \
    or out of steps."""
    most = 30 * design.shell.T
    assembly = assembly_of(design, largest=most, **how)
    made = 0
    while made < steps and not assembly.closed and len(assembly.state.faces) < most:
        made += assembly.run(min(CHUNK, steps - made))
    return assembly.state, made
