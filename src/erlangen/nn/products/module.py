"""`TensorProduct`: one layer for all products of irreps of O(3)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, get_args

import torch
from torch import Generator, Tensor, nn
from typing_extensions import override

from erlangen.errors import DtypeError, IrrepsError, NotFiniteError, ShapeError, UnknownNameError
from erlangen.groups import O
from erlangen.irreps import Irrep, Irreps, LebedevGrid, RecordsConventions, S2Grid
from erlangen.nn.features import features_of
from erlangen.nn.products.blocked import blocked
from erlangen.nn.products.carriers import Carrier, Road, SphereCarrier
from erlangen.nn.products.coupled import CoupledProduct, Edges
from erlangen.nn.products.fields import MatrixCarrier, VectorCarrier
from erlangen.nn.products.measures import expressivity, flops, interacts
from erlangen.nn.products.pairwise import PairwiseProduct, SparseProduct
from erlangen.nn.products.paths import FORMS, RULES, Form, Rule, layout
from erlangen.nn.products.signals import CarriedProduct, reachable, signals_reach
from erlangen.numerics import full_precision
from erlangen.symmetry import Symmetry

GAUNT_FROM = 4
"""Degree from which ``rule="auto"`` multiplies signals instead of coupling paths. On a CPU a depthwise product with its
gradient takes about as long either way at degree 3, and less by signals above (benchmarks/bench_products.py)."""


class TensorProduct(RecordsConventions):
    """Bilinear maps of irreps of O(3): ``f(rho_x(g) x, rho_y(g) y) = rho_out(g) f(x, y)``.

    What couples, and what it costs, is the `rule`:

    ============= ======================================================================================================
    rule          what it computes
    ============= ======================================================================================================
    "cg"          Clebsch-Gordan: every path (l1, l2, l3), each with its own weight
    "cg_sparse"   the same by the non-zero 3j symbols alone (forms "full" and "elementwise")
    "gaunt"       x and y are signals on the sphere and are multiplied there: even l1 + l2 + l3 only, one weight per
                  degree and side (Luo, Chen and Krishnapriyan 2024)
    "vector"      polar vector fields on the sphere with cross and dot product: odd paths too (Xie et al. 2025)
    "matrix"      matrices on harmonics with the matrix product (e3x's fused layers)
    "auto"        "cg", but "gaunt" where it can carry the irreps, the form has its own weights, and the largest degree of
                  x or y is at least `GAUNT_FROM`, from where it is faster here; `rule` and `reason` say what was chosen
    ============= ======================================================================================================

    How copies (multiplicities, channels) meet is the `form`:

    ============= ======================================================================================================
    form          copies
    ============= ======================================================================================================
    "full"        every copy of x with every copy of y, every path in a block of its own, no weights (e3nn's
                  FullTensorProduct, in its order); "cg" and "cg_sparse" only
    "elementwise" copy u of x with copy u of y, no weights ("uuu")
    "depthwise"   copy u of x with all copies of y to copy u of the output, weights per copy and path ("uvu"); other rules
                  than "cg" need one copy of each irrep of y, and have weights per copy and degree
    "connected"   every copy of the output from all pairs of copies, with weights ("uvw", e3nn's
                  FullyConnectedTensorProduct); other rules than "cg" mix to channels, multiply, and mix again
    ============= ======================================================================================================

    With standard normal inputs and weights, "cg" gives components of variance 1 (e3nn's normalisations "component" and
    "element"); "gaunt" keeps orthonormal harmonics, so signals multiply exactly as functions.

    Half precision: inputs of float16 and bfloat16 are multiplied in float32 and the result is rounded to their dtype, so
    relative errors are about 1e-3 and 1e-2, of the rounding alone. The same holds under autocast, without the rounding.

    >>> product = TensorProduct("16x0e+16x1o+16x2e", "0e+1o+2e", "16x0e+16x1o+16x2e", rule="cg", form="depthwise")
    >>> product.weight_numel, product(torch.randn(5, 144), torch.randn(5, 9)).shape
    (176, torch.Size([5, 144]))

    Args:
        irreps_x, irreps_y: the inputs.
        irreps_out: the output, whose blocks sum all paths that lead there; by default all irreps that are reached, for
            "cg" each path in its own block, sorted.
        rule, form: see above.
        keep: irreps of the output that are kept when `irreps_out` is left out, as in ``keep=["0e", "1o"]``.
        weights: "internal" for parameters, "given" to pass them with each call.
        road: how "gaunt" is computed: "dense" contraction, sphere "grid", "fourier" series; all three are exact. "auto" is
            "grid", the fastest from degree 2 on.
        grid: the grid for that road; the smallest exact Lebedev grid by default.
        exact: refuse grids that are too coarse.
        check: look for NaN in given weights at each call (it reads all of them).
        generator: source of the initial weights.

    Attributes:
        rule, form: what was chosen; `reason` says why.
        irreps_out: layout of the output.
        weight_numel: number of weights.
        symmetry: O(3) on the pair (x, y).

    Raises:
        IrrepsError: irreps do not exist, do not fit form or rule, or cannot be reached; the message names them.
        UnknownNameError: rule, form, road or weights are not known.
        GridError: the grid is too coarse.
    """

    def __init__(
        self,
        irreps_x: Irreps | str,
        irreps_y: Irreps | str,
        irreps_out: Irreps | str | None = None,
        *,
        rule: Rule = "auto",
        form: Form = "full",
        keep: Iterable[str | Irrep] | None = None,
        weights: Literal["internal", "given"] = "internal",
        road: Road | Literal["auto"] = "auto",
        grid: S2Grid | LebedevGrid | None = None,
        exact: bool = True,
        check: bool = False,
        generator: Generator | None = None,
    ) -> None:
        super().__init__()
        for name, value, known in (
            ("rule", rule, RULES),
            ("form", form, FORMS),
            ("road", road, ("auto", *get_args(Road))),
            ("weights", weights, ("internal", "given")),
        ):
            if value not in known:
                raise UnknownNameError(f"{name} is {value!r}; known are: {', '.join(map(repr, known))}")
        self.irreps_x, self.irreps_y = _checked(irreps_x, "irreps_x"), _checked(irreps_y, "irreps_y")
        out = None if irreps_out is None else _checked(irreps_out, "irreps_out")
        kept = None if keep is None else {Irrep(ir) for ir in keep}
        self.form: Form = form
        self.road: Road = "grid" if road == "auto" else road
        self.check = check
        chosen, self.reason = _choose(self.irreps_x, self.irreps_y, out, rule, form)
        self.rule: Rule = chosen
        self.product = self._build(out, kept, grid, exact)
        self.irreps_out = self.product.out if isinstance(self.product, CarriedProduct) else self.product.layout.out
        self.weight_numel = self.product.weight_numel
        own = weights == "internal" and self.weight_numel > 0
        self.weight = nn.Parameter(torch.randn(self.weight_numel, generator=generator)) if own else None
        moves = [features_of(irreps) for irreps in (self.irreps_x, self.irreps_y, self.irreps_out)]
        self.symmetry = Symmetry(O(3), input=(moves[0], moves[1]), output=moves[2])

    def _build(
        self, out: Irreps | None, keep: set[Irrep] | None, grid: S2Grid | LebedevGrid | None, exact: bool
    ) -> CoupledProduct | PairwiseProduct | SparseProduct | CarriedProduct:
        x, y, form = self.irreps_x, self.irreps_y, self.form
        if self.rule in ("cg", "cg_sparse"):
            paths = layout(x, y, out, form, keep)
            if self.rule == "cg_sparse":
                if form not in ("full", "elementwise"):
                    raise IrrepsError(
                        f'rule="cg_sparse" has the forms "full" and "elementwise", not {form!r}; use rule="cg"'
                    )
                return SparseProduct(paths, form)
            return PairwiseProduct(paths, form) if form in ("full", "elementwise") else CoupledProduct(paths, form)
        if self.rule == "gaunt":
            default = signals_reach(x, y, keep)

            def make(a: Irreps, b: Irreps, c: Irreps) -> Carrier:
                return SphereCarrier(a, b, c, self.road, grid, exact)
        else:
            # Neither polar vector fields nor these matrices have pseudoscalars, but cross products of fields do.
            without = {Irrep("0o")} if self.rule == "matrix" else set()
            default = reachable(x, y, keep, without)
            kind = VectorCarrier if self.rule == "vector" else MatrixCarrier

            def make(a: Irreps, b: Irreps, c: Irreps) -> Carrier:
                return kind(a, b, c)

        return CarriedProduct(x, y, out, form, make, default)

    # --- the product -----------------------------------------------------------------------------------------------
    def forward(
        self, x: Tensor | tuple[Tensor, Tensor], y: Tensor | None = None, weight: Tensor | None = None
    ) -> Tensor:
        """Features ``[..., irreps_out.dim]`` in the dtype of the inputs.

        Args:
            x: ``[..., irreps_x.dim]``; or the pair (x, y), as audits pass it.
            y: ``[..., irreps_y.dim]``; the leading axes of x and y broadcast.
            weight: ``[..., weight_numel]`` or ``[weight_numel]``, needed with ``weights="given"`` only.

        Raises:
            ShapeError: a last dimension does not fit, or leading axes do not broadcast.
            DtypeError: dtypes differ or are not floating.
            NotFiniteError: with `check`, a given weight is NaN or infinite.
        """
        if isinstance(x, tuple):
            x, y = x
        if y is None:
            raise ShapeError("y is missing; call product(x, y), or product((x, y))")
        weight = self._weight(x, weight)
        self._check(x, y, weight)
        try:
            lead = torch.broadcast_shapes(x.shape[:-1], y.shape[:-1], weight.shape[:-1])
        except RuntimeError as error:
            raise ShapeError(
                f"leading axes of x {tuple(x.shape)}, y {tuple(y.shape)} and weight {tuple(weight.shape)} do not broadcast"
            ) from error
        rows_x, rows_y = (t.expand(*lead, t.shape[-1]).reshape(-1, t.shape[-1]) for t in (x, y))
        if weight.shape[:-1].numel() == 1 or not self.weight_numel:
            rows_w = weight.reshape(1, self.weight_numel)
        else:
            rows_w = weight.expand(*lead, -1).reshape(-1, self.weight_numel)
        out = self._multiply(rows_x, rows_y, rows_w, None)
        return out.reshape(*lead, self.irreps_out.dim)

    def aggregate(
        self,
        x: Tensor,
        y: Tensor,
        edge_index: Tensor,
        weight: Tensor | None = None,
        *,
        num_nodes: int | None = None,
    ) -> Tensor:
        """Sums over edges, ``out[t] = sum_(e: s -> t) f(x[s], y[e])``, the message passing step of a graph network.

        With rule "cg" and the forms "depthwise" and "connected", gathering, product, mixing and sum are one: nothing of
        the size of edges times paths is written, forward or backward.

        Args:
            x: node features ``[N, irreps_x.dim]``.
            y: edge features ``[E, irreps_y.dim]``, for example `erlangen.nn.edge_harmonics`.
            edge_index: int64 ``[2, E]``, source and target, as in PyTorch Geometric.
            weight: ``[E, weight_numel]`` or ``[weight_numel]`` with ``weights="given"``.
            num_nodes: rows of the output, N by default.

        Returns:
            ``[num_nodes, irreps_out.dim]``.

        Raises:
            ShapeError: shapes do not fit, or an index is out of range. Otherwise as `forward`.
        """
        weight = self._weight(y, weight)
        self._check(x, y, weight)
        size = len(x) if num_nodes is None else num_nodes
        _check_edges(x, y, weight, edge_index, size)
        edges = Edges(edge_index[0], edge_index[1], size)
        return self._multiply(x, y, weight[None] if weight.ndim == 1 else weight, edges)

    def _multiply(self, x: Tensor, y: Tensor, weight: Tensor, edges: Edges | None) -> Tensor:
        dtype = x.dtype
        if dtype in (torch.float16, torch.bfloat16):
            x, y, weight = x.float(), y.float(), weight.float()
        with full_precision(x):
            if isinstance(self.product, CoupledProduct):
                out = blocked(self.product, x, y, weight, edges)
            else:
                if edges is not None:
                    x = x.index_select(0, edges.source)
                out = self.product(x, y, weight) if isinstance(self.product, CarriedProduct) else self.product(x, y)
                if edges is not None:
                    out = out.new_zeros(edges.size, out.shape[-1]).index_add(0, edges.target, out)
        return out.to(dtype)

    # --- checks ----------------------------------------------------------------------------------------------------
    def _weight(self, like: Tensor, weight: Tensor | None) -> Tensor:
        if self.weight_numel == 0:
            if weight is not None and weight.shape[-1:] != (0,):
                raise ShapeError(f"weight has shape {tuple(weight.shape)}, but the form {self.form!r} has no weights")
            return like.new_zeros(0)
        if self.weight is not None:
            if weight is not None:
                raise ShapeError('weight is given, but this layer has its own; construct it with weights="given"')
            return self.weight.to(like.dtype)
        if weight is None:
            raise ShapeError(
                f'weight is missing: this layer was made with weights="given" and needs [..., {self.weight_numel}]'
            )
        if weight.shape[-1:] != (self.weight_numel,):
            raise ShapeError(f"weight has shape {tuple(weight.shape)}, but [..., {self.weight_numel}] is needed")
        if self.check and not bool(torch.isfinite(weight).all()):
            raise NotFiniteError("weight holds NaN or infinite values; look at the network that makes it")
        return weight

    def _check(self, x: Tensor, y: Tensor, weight: Tensor) -> None:
        self.irreps_x.check_features(x, "x")
        self.irreps_y.check_features(y, "y")
        for name, other in (("x", x), ("y", y), ("weight", weight)):
            if not other.is_floating_point():
                raise DtypeError(f"{name} has dtype {other.dtype}, but a floating dtype is needed; call {name}.float()")
            if other.dtype != x.dtype:
                raise DtypeError(f"{name} has dtype {other.dtype}, but x has {x.dtype}; cast one of them")
            if other.device != x.device:
                raise DtypeError(f"{name} is on {other.device}, but x is on {x.device}; move one of them")

    def convert_from(self, saved: object) -> None:
        """The weights belong to paths, not to a basis of harmonics: they hold under every convention."""

    # --- what it is ------------------------------------------------------------------------------------------------
    def expressivity(self) -> int:
        """Dimension of the set of bilinear maps that the rule reaches with one copy of each irrep and free weights.

        The rank of the derivative of the map by its weights, at generic weights, in float64. For "cg" it is the number of
        paths; for "gaunt" from degrees 0..L to 0..2L it is 4L + 1, as only products of weights per degree appear.
        """
        return expressivity(self._single_channel())

    def interacts(self, l1: int, l2: int, l3: int) -> bool:
        """Whether degree l1 of x and l2 of y can give something of degree l3."""
        return interacts(self._single_channel(), l1, l2, l3)

    def flops(self) -> int:
        """Floating-point operations of the forward pass for one row, counted in a run."""
        return flops(self)

    def _single_channel(self) -> TensorProduct:
        """The same rule, depthwise, between one copy of each irrep, with given weights."""
        x, y, out = (_one_of_each(irreps) for irreps in (self.irreps_x, self.irreps_y, self.irreps_out))
        rule: Rule = "cg" if self.rule == "cg_sparse" else self.rule
        return type(self)(x, y, out, rule=rule, form="depthwise", weights="given", road=self.road)

    @override
    def extra_repr(self) -> str:
        road = f", road={self.road!r}" if self.rule == "gaunt" else ""
        return (
            f"{self.irreps_x} * {self.irreps_y} -> {self.irreps_out}, rule={self.rule!r} ({self.reason}){road}, "
            f"form={self.form!r}, weights={self.weight_numel}"
        )


def tensor_product(
    x: Tensor,
    y: Tensor,
    irreps_x: Irreps | str,
    irreps_y: Irreps | str,
    irreps_out: Irreps | str | None = None,
    *,
    rule: Rule = "auto",
    form: Form = "full",
    weight: Tensor | None = None,
    keep: Iterable[str | Irrep] | None = None,
) -> Tensor:
    """The product of two features as a function; arguments and errors are those of `TensorProduct`.

    Tables are built at each call; in a loop, construct `TensorProduct` once.

    >>> a, b = torch.tensor([1.0, 0.0, 0.0]), torch.tensor([0.0, 1.0, 0.0])
    >>> (2**0.5 * tensor_product(a, b, "1o", "1o", keep=["1e"])).round(decimals=3)    # the cross product
    tensor([0., 0., 1.])
    """
    product = TensorProduct(irreps_x, irreps_y, irreps_out, rule=rule, form=form, keep=keep, weights="given")
    return product(x, y, weight)


def _checked(irreps: Irreps | str, name: str) -> Irreps:
    try:
        return Irreps(irreps)
    except IrrepsError as error:
        raise IrrepsError(f"{name}: {error}") from error


def _one_of_each(irreps: Irreps) -> Irreps:
    return Irreps([(1, ir) for ir in dict.fromkeys(block.ir for block in irreps if block.mul)])


def _choose(x: Irreps, y: Irreps, out: Irreps | None, rule: Rule, form: Form) -> tuple[Rule, str]:
    if rule != "auto":
        return rule, "as asked"
    if form not in ("depthwise", "connected") or out is None or not x.num_irreps or not y.num_irreps:
        return "cg", "auto: the form has no weights of its own"
    top = max(x.lmax, y.lmax)
    if top < GAUNT_FROM:
        return "cg", f"auto: degrees below {GAUNT_FROM}"
    simple = form == "connected" or all(block.mul == 1 for block in y)
    once = all(len({b.ir for b in irreps}) == len(irreps) for irreps in (x, y, out))
    if simple and once and {block.ir for block in out} <= {block.ir for block in signals_reach(x, y)}:
        return "gaunt", f"auto: degree {top} is at least {GAUNT_FROM}, and signals carry the irreps"
    return "cg", "auto: signals on the sphere cannot carry these irreps"


def _check_edges(x: Tensor, y: Tensor, weight: Tensor, edge_index: Tensor, size: int) -> None:
    if x.ndim != 2 or y.ndim != 2:
        raise ShapeError(
            f"x has shape {tuple(x.shape)} and y {tuple(y.shape)}, but [nodes, dim] and [edges, dim] are needed"
        )
    if edge_index.shape != (2, len(y)) or edge_index.dtype != torch.int64:
        raise ShapeError(
            f"edge_index is {edge_index.dtype} {tuple(edge_index.shape)}, but int64 [2, {len(y)}] is needed, one column per "
            "row of y"
        )
    if weight.ndim > 1 and weight.shape[0] not in (1, len(y)):
        raise ShapeError(f"weight has shape {tuple(weight.shape)}, but one row per edge, [{len(y)}, ...], is needed")
    if len(y) and not torch.compiler.is_compiling():
        low, high = int(edge_index.min()), edge_index.amax(1).tolist()
        if low < 0 or high[0] >= len(x) or high[1] >= size:
            raise ShapeError(
                f"edge_index holds values from {low} to {max(high)}, but there are {len(x)} rows of x and {size} rows of the "
                "output; pass num_nodes if the targets are other nodes"
            )
