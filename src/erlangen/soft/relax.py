"""er.relax: a soft-equivariance penalty with one learned strength per symmetry."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, overload

import torch
from torch import Generator, Tensor, nn

from erlangen.actions import Tree, tree_leaves, tree_map
from erlangen.errors import ErlangenError, RepresentationError, SymmetryError, UnknownNameError
from erlangen.measure.checks import batch_length, check_action, take
from erlangen.measure.evaluate import on_orbit, squares
from erlangen.soft.projection import ProjectionPenalty
from erlangen.symmetry import Symmetry

if TYPE_CHECKING:
    from erlangen.nn.reps.emlp import RepLike


class SoftEquivariance(nn.Module):
    """The penalty ``sum_j c_j r_j + log(1 / c_j)``; see `relax`."""

    def __init__(
        self, model: nn.Module, symmetries: Sequence[Symmetry], samples: int, max_strength: float, seed: int
    ) -> None:
        super().__init__()
        self._model = [model]  # in a list: the model's parameters are the caller's, not the penalty's
        self.symmetries = list(symmetries)
        self.samples = samples
        self.max_strength = max_strength
        self.log_strengths = nn.Parameter(torch.zeros(len(self.symmetries)))
        self._generator = Generator().manual_seed(seed)

    @property
    def strengths(self) -> Tensor:
        """Current strength ``c_j`` of every symmetry ``[J]``, at most ``max_strength``."""
        limit = torch.log(self.log_strengths.new_tensor(self.max_strength))
        return self.log_strengths.clamp(-limit, limit).exp()

    def violations(self, x: Tree) -> Tensor:
        """``r_j = E_g ||f(gx) - g f(x)||^2 / E ||f(x)||^2`` on sampled elements ``[J]``, with gradient."""
        batch_length(x)
        for symmetry in self.symmetries:
            check_action(symmetry.input, take(x, slice(0, 1)))
        model = self._model[0]
        base = model(x)
        base_row, x_row = (tree_map(lambda leaf: leaf[None], tree) for tree in (base, x))
        like = tree_leaves(x)[0]
        rows = []
        for symmetry in self.symmetries:
            g = symmetry.group.sample(self.samples, generator=self._generator, dtype=like.dtype).to(like.device)[
                :, None
            ]
            answer = on_orbit(model, symmetry, g, x_row)  # pyright: ignore[reportArgumentType]
            difference = squares(answer, symmetry.output.act(g, base_row)).mean()
            size = squares(base_row).mean().detach().clamp_min(torch.finfo(torch.float64).tiny)
            rows.append((difference / size).to(like.dtype))
        return torch.stack(rows)

    def forward(self, x: Tree) -> Tensor:
        """The penalty on a batch, a scalar to add to the loss."""
        c = self.strengths
        return (c * self.violations(x) - c.log()).sum()


@overload
def relax(
    model: nn.Module,
    symmetries: Sequence[Symmetry],
    *,
    method: Literal["sampled"] = "sampled",
    samples: int = 4,
    max_strength: float = 100.0,
    seed: int = 0,
) -> SoftEquivariance: ...
@overload
def relax(
    model: nn.Module,
    symmetries: Sequence[Symmetry],
    *,
    method: Literal["projection"],
    representations: Sequence[RepLike],
    strengths: float | Sequence[float] = 1.0,
    power: float = 2.0,
) -> ProjectionPenalty: ...
def relax(
    model: nn.Module,
    symmetries: Sequence[Symmetry],
    *,
    method: Literal["sampled", "projection"] = "sampled",
    samples: int = 4,
    max_strength: float = 100.0,
    seed: int = 0,
    representations: Sequence[RepLike] | None = None,
    strengths: float | Sequence[float] = 1.0,
    power: float = 2.0,
) -> SoftEquivariance | ProjectionPenalty:
    """A penalty that pulls a model towards several symmetries at once and learns how strongly each one deserves it.

    Two forms. ``"sampled"`` looks at answers and works for any model. With ``r_j`` the relative violation of symmetry j on
    sampled elements, the penalty is ``sum_j c_j r_j - log c_j``, whose minimum over the strength is ``c_j = 1 / r_j``: the
    task-uncertainty weighting of Kendall, Gal and Cipolla (CVPR 2018). A symmetry that the data contradict keeps a large
    violation and so loses its strength; one that holds gains it.

    ``"projection"`` looks at the weights of the `torch.nn.Linear` layers, as Kim, Lee, Yang and Lee (ICML 2023) do:
    ``sum_j c_j R_j`` with ``R_j = sum_l ||W_l - P_j W_l||^2 / 2 + ||b_l - P_j b_l||^2 / 2``, where P_j is the orthogonal
    projection onto the equivariant maps between the representations declared for that layer. R_j = 0 says that all linear
    layers respect group j, and so does the model if what lies between them does: `erlangen.nn.Gate` and
    `erlangen.nn.BilinearLayer` of a group that contains all candidates. Pointwise functions do only where elements permute
    coordinates. For representations that are not orthogonal (scalings, SL, Lorentz) P_j is the nearest equivariant map and
    no average over the group. Strengths are adjusted once, after some training: `ProjectionPenalty.adjust`.

    >>> import torch, erlangen as er
    >>> from erlangen.reps import T
    >>> net = torch.nn.Linear(3, 2)
    >>> penalty = er.relax(net, [er.Symmetry("SO(3)", input="vectors", output="invariant")])
    >>> bool(penalty(torch.randn(8, 3)) > 0)
    True
    >>> net = torch.nn.Linear(3, 3)
    >>> rotations = er.Symmetry("SO(3)", input="vectors", output="vectors")
    >>> penalty = er.relax(net, [rotations], method="projection", representations=[T(1), T(1)])
    >>> penalty.project()                                      # the nearest multiple of the unit matrix, and no bias
    >>> bool(penalty() < 1e-12), bool(net.weight[0, 1] == 0)
    (True, True)

    Args:
        model: the model in training; it stays as it is.
        symmetries: the candidates, on the same inputs and outputs.
        method: which of the two forms.
        samples: sampled form: group elements per call and symmetry.
        max_strength: sampled form: bound of the strengths, and of their inverses.
        seed: sampled form: seed of the elements.
        representations: projection form: those of the input, of every hidden space and of the output, one more than the
            linear layers, which count in the order in which the model holds them. Each is a representation of a group that
            contains all candidates, or what makes one of a group, such as ``T(1)``. A layer whose output has the size of
            ``erlangen.nn.gated(rep)`` leads to that.
        strengths: projection form: the first strength of every symmetry, or one for all. Zero measures only.
        power: projection form: how sharply `ProjectionPenalty.adjust` tells symmetries apart.

    Returns:
        A module: add ``penalty(x)`` to the loss and read ``penalty.strengths``. Sampled form: add
        ``penalty.parameters()`` to the optimizer. Projection form: it has none; call ``penalty.adjust()`` once, or give
        ``penalty.schedule(...)`` to `erlangen.fit`.

    Raises:
        SymmetryError: no symmetries, ones on different spaces, or ends that move otherwise than the representations.
        RepresentationError: `representations` is missing, or sizes do not fit the layers.
        ModelError: no linear layers.
        UnknownNameError: another method.
        ErlangenError: a number is out of range, strengths are negative or all zero.
    """
    symmetries = list(symmetries)
    if not symmetries or not all(isinstance(symmetry, Symmetry) for symmetry in symmetries):
        raise SymmetryError("symmetries must be a non-empty list of er.Symmetry(group, input=..., output=...)")
    if method == "projection":
        if representations is None:
            raise RepresentationError(
                "representations is missing: method='projection' needs those of the input, of every hidden space and of the "
                "output"
            )
        dimensions = sorted({symmetry.group.space_dim for symmetry in symmetries})
        if len(dimensions) > 1:
            raise SymmetryError(
                f"symmetries act on spaces of dimensions {dimensions}; give groups that act on one space, for example "
                "embedded by er.Subgroup"
            )
        return ProjectionPenalty(model, symmetries, representations, strengths, power)
    if method != "sampled":
        raise UnknownNameError(f"method = {method!r}; known methods are 'sampled' and 'projection'")
    if samples < 1 or max_strength <= 1:
        raise ErlangenError(
            f"samples = {samples}, max_strength = {max_strength}: samples must be 1 or more, max_strength above 1"
        )
    return SoftEquivariance(model, symmetries, samples, max_strength, seed)
