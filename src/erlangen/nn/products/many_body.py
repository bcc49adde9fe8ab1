"""`ManyBodyProduct`: powers of a signal on the sphere, the many-body features of atomistic models."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Generator, Tensor, nn
from typing_extensions import override

from erlangen.actions import Invariant
from erlangen.errors import DtypeError, ErlangenError, IrrepsError, ShapeError, UnknownNameError, first_index, is_whole
from erlangen.groups import O
from erlangen.irreps import MAX_DEGREE, Irrep, Irreps, LebedevGrid, RecordsConventions, S2Grid
from erlangen.nn.features import features_of
from erlangen.nn.products.carriers import Slot, SphereCarrier
from erlangen.nn.products.signals import signals_reach
from erlangen.numerics import full_precision
from erlangen.symmetry import Symmetry
from erlangen.tracing import is_traced

ManyBodyRoad = Literal["grid", "fourier"]

BLOCK_BYTES = 1 << 22
"""Size of the samples of all powers of one block of rows."""


class ManyBodyProduct(RecordsConventions):
    """Sums of powers of signals: ``out = sum_nu w_nu f^nu``, expanded in harmonics, one weight per degree and channel.

    Each channel of x is a signal f on the sphere. It is sampled once; its powers are products of samples,
    ``f^nu = f^(nu // 2) f^(nu - nu // 2)``, and each is expanded back to the degrees of the output alone. This is the
    product of nu equal neighbourhoods in MACE (Batatia et al. 2022), coupled by Gaunt in place of Clebsch-Gordan
    coefficients (Luo, Chen and Krishnapriyan 2024, section 3.3). Exact: the samples resolve degree
    ``order * L + L_out``.

    True signals carry degree l with parity (-1)^l, pseudo-signals with the other one; a channel may hold both, and odd
    powers of a pseudo-signal are pseudo-signals, even ones true. Powers run in blocks of rows, forward and backward, so
    the memory is that of inputs and outputs. The second derivative is that of the formula. Half precision is multiplied
    in float32 and rounded.

    >>> product = ManyBodyProduct("8x0e+8x1o+8x2e", "8x0e+8x1o", order=3, elements=4)
    >>> product(torch.randn(5, 72), torch.tensor([0, 1, 1, 3, 2])).shape
    torch.Size([5, 32])

    Args:
        irreps_in: C copies of each of its irreps, as in ``"64x0e+64x1o+64x2e"``.
        irreps_out: C copies of each of its irreps, of degrees up to ``order * L``.
        order: largest power, at least 1.
        elements: number of tables of weights; with more than one, each row says which it takes.
        road: samples on a sphere "grid", or on the torus of the two-dimensional "fourier" series; both are exact.
        grid: for the road "grid": its points, by default the smallest Lebedev rule that is exact.
        exact: refuse a grid that is too coarse.
        generator: source of the initial weights; torch's global stream without it.

    Attributes:
        weight: ``[elements, paths, C]``. It starts as Gaussians, scaled so that components of the output have on average
            the square 1 where inputs are standard normal.
        paths: power and output block ``(nu, block)`` of each path; powers that cannot reach a block have none.
        symmetry: O(3), with an invariant index of the element where there are several.

    Raises:
        IrrepsError: multiplicities differ, an irrep occurs twice, a degree is out of reach or ``(order - 1) * L`` above
            16, or no power of the signal carries an irrep of the output.
        GridError: the grid is too coarse; the message names the smallest that is not.
        UnknownNameError: the road is not known.
        ErlangenError: `order` or `elements` is not a positive integer.
    """

    def __init__(
        self,
        irreps_in: Irreps | str,
        irreps_out: Irreps | str,
        order: int,
        *,
        elements: int = 1,
        road: ManyBodyRoad = "grid",
        grid: S2Grid | LebedevGrid | None = None,
        exact: bool = True,
        generator: Generator | None = None,
    ) -> None:
        super().__init__()
        self.irreps_in, self.irreps_out = Irreps(irreps_in), Irreps(irreps_out)
        self.order, self.elements, self.road = order, elements, road
        for name, count in (("order", order), ("elements", elements)):
            if not is_whole(count, 1):
                raise ErlangenError(f"{name} is {count!r}, but a positive integer is needed")
        if road not in get_args(ManyBodyRoad):
            raise UnknownNameError(f"road is {road!r}; known are: {', '.join(map(repr, get_args(ManyBodyRoad)))}")
        self.channels = _channels(self.irreps_in, self.irreps_out)
        x, out = _types(self.irreps_in), _types(self.irreps_out)
        reached = _reached(x, order)
        _check_reach(self.irreps_out, x, reached)
        self.paths = [(nu, n) for nu in range(1, order + 1) for n, block in enumerate(out) if block.ir in reached[nu]]
        # The samples that resolve the product of f with f^(order - 1) resolve all powers.
        rest = Irreps(sorted(set[Irrep]().union(*reached[:order])))
        carrier = SphereCarrier(x, rest, out, road, grid, exact)
        self._table, self._dual = carrier.table_x, carrier.table_out
        places = {path: n for n, path in enumerate(self.paths)}
        self._index = torch.tensor(
            [
                [places.get((nu, n), len(places)) for n, block in enumerate(out) for _ in range(block.dim)]
                for nu in range(1, order + 1)
            ]
        )
        scale = torch.tensor(self._initial_scale(carrier.slots_x, carrier.slots_out)).float()
        drawn = torch.randn(elements, len(self.paths), self.channels, generator=generator)
        self.weight = nn.Parameter(scale[:, None] * drawn)
        moves = [features_of(irreps) for irreps in (self.irreps_in, self.irreps_out)]
        self.symmetry = Symmetry(O(3), input=moves[0] if elements == 1 else (moves[0], Invariant()), output=moves[1])

    def _initial_scale(self, slots_x: list[Slot], slots_out: list[Slot]) -> list[float]:
        """Standard deviation of the weights of each path: the sum of all paths to a block has square 1 on average."""
        last = [n for _, n in self.paths]
        return [(_mean_square(slots_x, slots_out[n], nu) * last.count(n)) ** -0.5 for nu, n in self.paths]

    def forward(self, x: Tensor | tuple[Tensor, Tensor], element: Tensor | None = None) -> Tensor:
        """Features ``[..., irreps_out.dim]`` in the dtype of x.

        Args:
            x: ``[..., irreps_in.dim]``; or the pair (x, element), as audits pass it.
            element: int64 ``[...]``, the table of weights of each row; needed where there are several.

        Raises:
            ShapeError: a shape does not fit, or `element` is missing, out of range, or of another dtype than int64.
            DtypeError: x is not floating.
        """
        if isinstance(x, tuple):
            x, element = x
        self.irreps_in.check_features(x, "x")
        if not x.is_floating_point():
            raise DtypeError(f"x has dtype {x.dtype}, but a floating dtype is needed; call x.float()")
        rows = self._rows(x, element)
        dtype = x.dtype
        values = x.float() if dtype in (torch.float16, torch.bfloat16) else x
        with full_precision(values):
            signals = _to_channels(values.reshape(-1, values.shape[-1]), self.irreps_in)
            weight = self._weights().to(values.dtype)
            powers = _Powers(self._table(values), self._dual(values), self.order)
            out = _powers(signals, weight, rows, powers)
            out = _from_channels(out, self.irreps_out)
        return out.reshape(*x.shape[:-1], self.irreps_out.dim).to(dtype)

    def _weights(self) -> Tensor:
        """``[elements, order, channels, K_out]``, zero where a power cannot reach a block."""
        padded = torch.cat([self.weight, self.weight.new_zeros(self.elements, 1, self.channels)], 1)
        return padded[:, self._index.to(padded.device)].mT

    def _rows(self, x: Tensor, element: Tensor | None) -> Tensor | None:
        """The element of each row, ``[E]``."""
        if element is None:
            if self.elements > 1:
                raise ShapeError(
                    f"element is missing: there are {self.elements} tables of weights; pass one index per row, int64 "
                    f"{list(x.shape[:-1])}"
                )
            return None
        if element.dtype != torch.int64 or element.shape != x.shape[:-1]:
            raise ShapeError(
                f"element is {element.dtype} {list(element.shape)}, but int64 {list(x.shape[:-1])} is needed, one index "
                "per row of x"
            )
        if not is_traced():
            bad = (element < 0) | (element >= self.elements)
            if bool(bad.any()):
                index = first_index(bad)
                raise ShapeError(
                    f"element{list(index)} is {int(element[index])}, but there are {self.elements} tables of weights, "
                    f"0..{self.elements - 1}"
                )
        return element.reshape(-1)

    def convert_from(self, saved: object) -> None:
        """The weights belong to degrees, not to a basis of harmonics: they hold under every convention."""

    @override
    def extra_repr(self) -> str:
        return (
            f"{self.irreps_in} -> {self.irreps_out}, order={self.order}, elements={self.elements}, road={self.road!r}"
        )


# --- powers ----------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class _Powers:
    """Tables to samples ``[K, P]`` and back ``[P, K_out]``, and the largest power."""

    table: Tensor
    dual: Tensor
    order: int

    def samples(self, x: Tensor) -> list[Tensor]:
        """Samples ``[..., P]`` of f, f^2, ..., by divide and conquer."""
        F = [x @ self.table]
        for nu in range(2, self.order + 1):
            F.append(F[nu // 2 - 1] * F[nu - nu // 2 - 1])
        return F

    def __call__(self, x: Tensor, weight: Tensor) -> Tensor:
        """``[E, C, K]`` and weights ``[E or 1, order, C, K_out]`` to ``[E, C, K_out]``."""
        parts = [(F @ self.dual) * weight[:, n] for n, F in enumerate(self.samples(x))]
        return torch.stack(parts).sum(0)


def _powers(x: Tensor, weight: Tensor, rows: Tensor | None, powers: _Powers) -> Tensor:
    """Signals ``[E, C, K]`` and weights ``[elements, order, C, K_out]`` to ``[E, C, K_out]``."""
    if is_traced():
        return powers(x, weight if rows is None else weight[rows])
    return _Blocked.apply(x, weight, rows, powers)


class _Blocked(torch.autograd.Function):
    """`_Powers` in blocks of rows; the backward pass samples again."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, rows: Tensor | None, powers: _Powers) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.rows, ctx.powers = rows, powers
        out = x.new_empty(*x.shape[:-1], weight.shape[-1])
        for part in _blocks(x, powers):
            out[part] = powers(x[part], _of_rows(weight, rows, part))
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (x, weight), wanted = ctx.saved_tensors, ctx.needs_input_grad[:2]
        if torch.is_grad_enabled():
            out = ctx.powers(x, weight if ctx.rows is None else weight[ctx.rows])
            inputs = [t for t, want in zip((x, weight), wanted, strict=True) if want]
            found = iter(torch.autograd.grad(out, inputs, grads[0], create_graph=True))
            return (*(next(found) if want else None for want in wanted), None, None)
        return (*_gradients(x, weight, ctx.rows, ctx.powers, grads[0], *wanted), None, None)


def _gradients(
    x: Tensor, weight: Tensor, rows: Tensor | None, powers: _Powers, grad: Tensor, want_x: bool, want_weight: bool
) -> tuple[Tensor | None, Tensor | None]:
    grad_x = torch.empty_like(x) if want_x else None
    grad_weight = torch.zeros_like(weight) if want_weight else None
    for part in _blocks(x, powers):
        F, g, w = powers.samples(x[part]), grad[part], _of_rows(weight, rows, part)
        if grad_weight is not None:
            each = torch.stack([(f @ powers.dual) * g for f in F], 1)  # [E, order, C, K_out]
            if rows is None:
                grad_weight[0] += each.sum(0)
            else:
                grad_weight.index_add_(0, rows[part], each)
        if grad_x is not None:
            total = (g * w[:, 0]) @ powers.dual.mT
            for nu in range(2, powers.order + 1):
                total.addcmul_((g * w[:, nu - 1]) @ powers.dual.mT, F[nu - 2], value=nu)
            grad_x[part] = total @ powers.table.mT
    return grad_x, grad_weight


def _of_rows(weight: Tensor, rows: Tensor | None, part: slice) -> Tensor:
    return weight if rows is None else weight[rows[part]]


def _blocks(x: Tensor, powers: _Powers) -> list[slice]:
    width = max(1, x.shape[1] * powers.table.shape[-1] * powers.order * x.element_size())
    size = max(1, BLOCK_BYTES // width)
    return [slice(start, start + size) for start in range(0, len(x), size)]


# --- irreps ----------------------------------------------------------------------------------------------------------
def _types(irreps: Irreps) -> Irreps:
    return Irreps([(1, block.ir) for block in irreps])


def _channels(irreps_in: Irreps, irreps_out: Irreps) -> int:
    """The common multiplicity."""
    for name, irreps in (("irreps_in", irreps_in), ("irreps_out", irreps_out)):
        if irreps.num_irreps == 0:
            raise IrrepsError(f"{name} is {str(irreps)!r}, but at least one irrep is needed")
        types = [block.ir for block in irreps]
        for block in irreps:
            if block.mul != irreps_in[0].mul:
                raise IrrepsError(
                    f"{name}: {block} has {block.mul} copies, but each irrep needs the {irreps_in[0].mul} channels of "
                    f"{irreps_in[0]}; mix to equal multiplicities with a linear layer first"
                )
            if types.count(block.ir) > 1:
                raise IrrepsError(
                    f"{name}: {block.ir} occurs in {types.count(block.ir)} blocks, but a signal has one coefficient of "
                    "each; give one block of each irrep"
                )
    return irreps_in[0].mul


def _reached(x: Irreps, order: int) -> list[set[Irrep]]:
    """Irreps of the powers 0..order of a signal."""
    reached = [{Irrep("0e")}]
    for _ in range(order):
        reached.append({block.ir for block in signals_reach(Irreps(sorted(reached[-1])), x)})
    return reached


def _check_reach(irreps_out: Irreps, x: Irreps, reached: list[set[Irrep]]) -> None:
    order, powers = len(reached) - 1, set[Irrep]().union(*reached[1:])
    for block in irreps_out:
        if block.ir.l > order * x.lmax:
            raise IrrepsError(
                f"irreps_out: {block} has degree {block.ir.l}, but powers up to {order} of degree {x.lmax} reach "
                f"{order * x.lmax}; lower the degree or raise order"
            )
        if block.ir not in powers:
            raise IrrepsError(
                f"irreps_out: no power up to {order} of signals with {x} carries {block.ir}; those reached are "
                f"{', '.join(map(str, sorted(powers)))}"
            )
    if (order - 1) * x.lmax > MAX_DEGREE:
        raise IrrepsError(
            f"irreps_in: degree {x.lmax} to the power {order} needs harmonics of degree {(order - 1) * x.lmax}, but there "
            f"are {MAX_DEGREE}; lower the degree or order"
        )


def _to_channels(x: Tensor, irreps: Irreps) -> Tensor:
    """``[E, irreps.dim]`` to ``[E, C, K]``."""
    parts = x.split([block.dim for block in irreps], -1)
    return torch.cat([p.unflatten(-1, (b.mul, b.ir.dim)) for p, b in zip(parts, irreps, strict=True)], -1)


def _from_channels(x: Tensor, irreps: Irreps) -> Tensor:
    """The inverse of `_to_channels`."""
    return torch.cat([part.flatten(1) for part in x.split([block.ir.dim for block in irreps], -1)], -1)


def _mean_square(slots_x: list[Slot], out: Slot, nu: int) -> float:
    """Mean square of a component in degree l of f^nu, for standard normal coefficients of f.

    f is a Gaussian process with covariance ``k(t) = sum_l (2 l + 1) / 4 pi P_l(t)``, t the cosine of the angle between two
    points; the covariance of its power, by Isserlis' theorem, is a polynomial in k, and the wanted number is its
    component ``2 pi int P_l``. The product of true and pseudo-signals f + s g acts as that of f + g and f - g.
    """
    degree = nu * max(slot.irrep.l for slot in slots_x) + out.irrep.l
    t, w = np.polynomial.legendre.leggauss(degree // 2 + 1)

    def legendre(l: int) -> np.ndarray:
        return np.polynomial.legendre.legval(t, [0.0] * l + [1.0])

    sheets: list[np.ndarray] = []
    for sign in (1, -1):
        terms = [
            (1 if slot.place[0] == 1 else sign) * slot.irrep.dim / (4 * math.pi) * legendre(slot.irrep.l)
            for slot in slots_x
        ]
        sheets.append(_isserlis(np.sum(terms, 0), sum(s.irrep.dim for s in slots_x) / (4 * math.pi), nu))
    covariance = (sheets[0] + out.place[0] * sheets[1]) / 2
    return float(2 * math.pi * (w * covariance * legendre(out.irrep.l)).sum())


def _isserlis(k: np.ndarray, variance: float, nu: int) -> np.ndarray:
    """``E[a^nu b^nu]`` of Gaussians a and b with mean 0, equal variance and covariance k."""
    total = np.zeros_like(k)
    for j in range(nu % 2, nu + 1, 2):  # j pairs of a with b; the rest in (nu - j) / 2 pairs each
        inner = math.prod(range(nu - j - 1, 0, -2))
        total += math.factorial(j) * (math.comb(nu, j) * inner) ** 2 * variance ** (nu - j) * k**j
    return total
