"""Which irreps couple to which: the paths of a product and the layout of its output."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

from erlangen.errors import IrrepsError
from erlangen.irreps import Irrep, Irreps

Rule = Literal["auto", "cg", "cg_sparse", "gaunt", "vector", "matrix"]
"""What couples, and how: see `erlangen.nn.TensorProduct`."""
RULES: tuple[Rule, ...] = get_args(Rule)

Form = Literal["full", "elementwise", "depthwise", "connected"]
"""How copies meet: see `erlangen.nn.TensorProduct`."""
FORMS: tuple[Form, ...] = get_args(Form)


@dataclass(frozen=True)
class Path:
    """Block `x` of the first input and block `y` of the second couple to degree l3; `degrees` is (l1, l2, l3)."""

    x: int
    y: int
    degrees: tuple[int, int, int]


@dataclass(frozen=True)
class Output:
    """One block of the output: `mul` copies of `irrep`, the scaled sum over its paths.

    The scale makes the components of the output have variance 1 when those of inputs and weights do (e3nn's
    normalisation "component" of irreps, "element" of paths).
    """

    irrep: Irrep
    mul: int
    paths: tuple[Path, ...]
    scale: float


@dataclass(frozen=True)
class Layout:
    """Inputs, outputs and paths of a product."""

    x: Irreps
    y: Irreps
    out: Irreps
    outputs: tuple[Output, ...]

    @property
    def paths(self) -> tuple[Path, ...]:
        """All paths, by output block."""
        return tuple(path for output in self.outputs for path in output.paths)


def layout(x: Irreps, y: Irreps, out: Irreps | None, form: Form, keep: Iterable[Irrep] | None = None) -> Layout:
    """The paths of a product in a form.

    Args:
        x, y: irreps of the inputs.
        out: irreps of the output, each block of which sums all its paths; None keeps every path in a block of its own,
            sorted by irrep as in e3nn.
        form: how copies meet.
        keep: irreps of the output that are kept when `out` is None.

    Raises:
        IrrepsError: a block of `out` is reached by no path, or the multiplicities do not fit the form.
    """
    if out is None:
        if form == "connected":
            raise IrrepsError(
                'irreps_out is missing: the form "connected" mixes into given irreps, such as "8x0e+4x1o"'
            )
        return _separate(x, y, form, None if keep is None else set(keep))
    if form == "full":
        raise IrrepsError(
            f'irreps_out cannot be chosen in the form "full": every path is kept; pass form="connected" to mix into {out} with '
            "weights, or filter with keep="
        )
    outputs = []
    for block in out:
        paths = [path for path in _couple(x, y, form) if _parity(x, y, path) == block.ir]
        if form != "connected":
            paths = [path for path in paths if _copies(x, y, path, form) == block.mul]
        if not paths:
            raise IrrepsError(_unreached(x, y, block.ir, block.mul, form))
        fan = sum(_fan(x, y, path, form) for path in paths)
        outputs.append(Output(block.ir, block.mul, tuple(paths), math.sqrt(block.ir.dim / fan)))
    return Layout(x, y, out, tuple(outputs))


def _separate(x: Irreps, y: Irreps, form: Form, keep: set[Irrep] | None) -> Layout:
    found = [(_parity(x, y, path), path) for path in _couple(x, y, form)]
    found = sorted((pair for pair in found if keep is None or pair[0] in keep), key=lambda pair: pair[0])
    outputs = [
        Output(ir, _copies(x, y, path, form), (path,), math.sqrt(ir.dim / _fan(x, y, path, form))) for ir, path in found
    ]
    return Layout(x, y, Irreps([(output.mul, output.irrep) for output in outputs]), tuple(outputs))


def _couple(x: Irreps, y: Irreps, form: Form) -> list[Path]:
    return [
        Path(i, j, (a.ir.l, b.ir.l, ir.l))
        for i, a in enumerate(x)
        for j, b in enumerate(y)
        if a.mul and b.mul and (form != "elementwise" or a.mul == b.mul)
        for ir in a.ir * b.ir
    ]


def _parity(x: Irreps, y: Irreps, path: Path) -> Irrep:
    return Irrep(path.degrees[2], x[path.x].ir.p * y[path.y].ir.p)


def _copies(x: Irreps, y: Irreps, path: Path, form: Form) -> int:
    """Copies in the output where the form fixes them."""
    return x[path.x].mul * (y[path.y].mul if form == "full" else 1)


def _fan(x: Irreps, y: Irreps, path: Path, form: Form) -> int:
    """How many products of copies are summed into one output copy."""
    m, n = x[path.x].mul, y[path.y].mul
    return {"full": 1, "elementwise": 1, "depthwise": n, "connected": m * n}[form]


def _unreached(x: Irreps, y: Irreps, ir: Irrep, mul: int, form: Form) -> str:
    reached = sorted({_parity(x, y, path) for path in _couple(x, y, form)})
    text = ", ".join(map(str, reached)) or "nothing"
    message = f"irreps_out: no path from {x} times {y} leads to {mul}x{ir} in the form {form!r}; irreps reached: {text}"
    if ir in reached:
        copies = sorted({_copies(x, y, p, form) for p in _couple(x, y, form) if _parity(x, y, p) == ir})
        message += f"; {ir} comes with multiplicity {' or '.join(map(str, copies))}"
    return message
