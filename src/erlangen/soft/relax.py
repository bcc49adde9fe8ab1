"""er.relax: a soft-equivariance penalty with one strength per symmetry, found in training."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, overload

import torch
from torch import Generator, Tensor, nn
from typing_extensions import override

from erlangen.actions import Tree, tree_leaves, tree_map
from erlangen.errors import (
    CollapseWarning,
    ErlangenError,
    LossSizeWarning,
    NotConvergedWarning,
    RepresentationError,
    SymmetryError,
    UnknownNameError,
)
from erlangen.measure.checks import batch_length, check_action, take
from erlangen.measure.evaluate import on_orbit, squares
from erlangen.soft.projection import ProjectionPenalty
from erlangen.symmetry import Symmetry

if TYPE_CHECKING:
    from erlangen.nn.reps.emlp import RepLike


WEIGHT = 0.05
"""Default weight of the penalty: far below one, so that what a network learns from data outweighs it."""
PACE = 0.02, 0.01
"""Shares of a new violation in the running mean that decides strengths, and in the slower one that it is compared with."""
SETTLED = 200, 0.25
"""Least number of calls, and largest distance of the logarithms of both strengths, of what counts as converged."""
COLLAPSED = 0.5
"""Share of the largest variance seen, under which a penalty that holds a symmetry counts as one that undoes what was learned."""
LARGE = 1e4
"""Variance of the answers, in units of the loss, above which the penalty is named as too small to be felt."""
WARM_UP = 50
"""Calls before the variance of the answers is compared with what it was: until then it is that of few batches."""


class SoftEquivariance(nn.Module):
    """The penalty ``weight * u * sum_j (c_j r_j - log c_j)``; see `relax`. Printed, it says what it has found."""

    means: Tensor
    """Running means of the violations ``[2, J]``, the faster and the slower one; both begin at 1."""
    spreads: Tensor
    """Variance of the answers: running mean, and its largest value so far."""
    calls: Tensor
    """Calls in training mode."""

    def __init__(
        self,
        model: nn.Module,
        symmetries: Sequence[Symmetry],
        samples: int,
        weight: float,
        max_strength: float,
        seed: int,
        loss_size: float = 1.0,
    ) -> None:
        super().__init__()
        self._model = [model]  # in a list: the model's parameters are the caller's, not the penalty's
        self.symmetries = list(symmetries)
        self.samples = samples
        self.weight = weight
        self.loss_size = loss_size
        self.max_strength = max_strength
        self.register_buffer("means", torch.ones(2, len(self.symmetries), dtype=torch.float64))
        self.register_buffer("spreads", torch.zeros(2, dtype=torch.float64))
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        self._generator = Generator().manual_seed(seed)
        self._warned = self._warned_of_size = False

    @property
    def strengths(self) -> Tensor:
        """Strength ``c_j`` of every symmetry ``[J]``, between ``1 / max_strength`` and ``max_strength``.

        Warns:
            NotConvergedWarning: training has moved the strengths and still does.
        """
        if int(self.calls) and not self.converged:
            warnings.warn(
                f"the strengths of er.relax have not converged after {int(self.calls)} calls; train on before they are compared",
                NotConvergedWarning,
                stacklevel=2,
            )
        return self._strengths()[0]

    @property
    def converged(self) -> bool:
        """Whether strengths by recent and by older violations agree to a quarter, after at least 200 calls."""
        fast, slow = self._strengths()
        return int(self.calls) >= SETTLED[0] and bool(((fast / slow).log().abs() <= SETTLED[1]).all())

    @property
    def collapsed(self) -> bool:
        """Whether answers have lost half of the variance that they once had, on the way to a constant, while a strength is
        above one: then it is the penalty that holds, and not the data."""
        return bool(self.spreads[0] < COLLAPSED * self.spreads[1]) and bool((self._strengths()[0] > 1).any())

    def violations(self, x: Tree) -> Tensor:
        """``r_j = E_g ||f(gx) - g f(x)||^2 / Var f(x)`` on sampled elements ``[J]``, with gradient.

        The variance is over the batch, the sum of all entries'; of a batch of one it is ``||f(x)||^2``. So a violation does
        not change when the answers are scaled or, for invariant outputs, shifted.
        """
        return self._measure(x)[0]

    def _strengths(self) -> Tensor:
        return (1 / self.means).clamp(1 / self.max_strength, self.max_strength)

    def _measure(self, x: Tree) -> tuple[Tensor, Tensor]:
        """Violations ``[J]``, and the variance of the answers, float64."""
        batch_length(x)
        for symmetry in self.symmetries:
            check_action(symmetry.input, take(x, slice(0, 1)))
        model = self._model[0]
        base = model(x)
        base_row, x_row = (tree_map(lambda leaf: leaf[None], tree) for tree in (base, x))
        like = tree_leaves(x)[0]
        variance = _variance(base_row)
        rows = []
        for symmetry in self.symmetries:
            g = symmetry.domain.sample(self.samples, generator=self._generator, dtype=like.dtype).to(like.device)[
                :, None
            ]
            answer = on_orbit(model, symmetry, g, x_row)  # pyright: ignore[reportArgumentType]
            rows.append(squares(answer, symmetry.output.act(g, base_row)).mean() / variance)
        return torch.stack(rows), variance.detach()

    def forward(self, x: Tree) -> Tensor:
        """The penalty on a batch, a scalar to add to the loss; in training mode the strengths follow."""
        violations, variance = self._measure(x)
        if self.training:
            self._follow(violations.detach(), variance)
        c = self._strengths()[0].to(violations)
        unit = self.weight * variance.clamp(max=self.loss_size)
        return (unit * (c * violations - c.log()).sum()).to(tree_leaves(x)[0].dtype)

    def _follow(self, violations: Tensor, variance: Tensor) -> None:
        self.means += self.means.new_tensor(PACE)[:, None] * (violations.to(self.means) - self.means)
        share = PACE[0] if int(self.calls) else 1.0
        self.spreads[0] += share * (variance.to(self.spreads) - self.spreads[0])
        if int(self.calls) >= WARM_UP:
            self.spreads[1] = self.spreads.max()
        self.calls += 1
        if int(self.calls) > WARM_UP and self.spreads[0] > LARGE * self.loss_size and not self._warned_of_size:
            self._warned_of_size = True
            warnings.warn(
                f"the answers of the model have the variance {float(self.spreads[0]):.3g}: beside their mean squared error the "
                "penalty of er.relax is nothing, and pulls towards no symmetry. Standardise the targets, or give their variance, "
                "er.relax(..., loss_size=float(y.var()))",
                LossSizeWarning,
                stacklevel=3,
            )
        if self.collapsed and not self._warned:
            self._warned = True
            warnings.warn(
                f"the answers of the model collapse: their variance fell from {float(self.spreads[1]):.3g} to "
                f"{float(self.spreads[0]):.3g}. Everything constant is invariant, so strengths say nothing here; make the "
                f"weight of er.relax smaller (weight = {self.weight:g}), or standardise the targets",
                CollapseWarning,
                stacklevel=3,
            )

    @override
    def extra_repr(self) -> str:
        rows = zip(self.symmetries, self._strengths()[0].tolist(), self.means[0].tolist(), strict=True)
        lines = [f"{s}: strength {c:.3g}, violation {r:.3g}" for s, c, r in rows]
        state = "collapsed" if self.collapsed else "converged" if self.converged else "not converged"
        return "\n".join([*lines, f"weight={self.weight:g}, {int(self.calls)} calls, {state}"])


def _variance(row: Tree) -> Tensor:
    """Variance of answers ``[1, B, ...]`` over the batch, where integers count one each; not below rounding."""
    size = squares(row).mean()
    if tree_leaves(row)[0].shape[1] == 1:
        variance = size
    else:
        centred = tree_map(lambda leaf: leaf - leaf.mean(1, keepdim=True) if leaf.is_floating_point() else leaf, row)
        count = tree_leaves(row)[0].shape[1]
        variance = squares(centred).mean() * count / (count - 1)
    return torch.maximum(variance, 1e-10 * size.detach()).clamp_min(torch.finfo(torch.float64).tiny ** 0.5)


@overload
def relax(
    model: nn.Module,
    symmetries: Sequence[Symmetry],
    *,
    method: Literal["sampled"] = "sampled",
    samples: int = 4,
    weight: float = WEIGHT,
    max_strength: float = 100.0,
    loss_size: float = 1.0,
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
    weight: float = WEIGHT,
    max_strength: float = 100.0,
    loss_size: float = 1.0,
    seed: int = 0,
    representations: Sequence[RepLike] | None = None,
    strengths: float | Sequence[float] = 1.0,
    power: float = 2.0,
) -> SoftEquivariance | ProjectionPenalty:
    """A penalty that pulls a model towards several symmetries at once and learns how strongly each one deserves it.

    Two forms. ``"sampled"`` looks at answers and works for any model. With ``r_j`` the violation of symmetry j on sampled
    elements, relative to the variance of the answers, the penalty is ``weight * u * sum_j (c_j r_j - log c_j)``, and every
    strength is where this is least, ``c_j = 1 / r_j`` of a running mean: the task-uncertainty weighting of Kendall, Gal and
    Cipolla (CVPR 2018). A symmetry that the data contradict keeps a large violation and so loses its strength; one that holds
    gains it. As violations are relative, nothing is gained by small answers; the unit u, the variance of the answers where
    it is below `loss_size`, keeps the penalty small beside the loss also where targets are small. Where they are large (energies
    of 1e4) and `loss_size` is left at one, strengths are measured, but the penalty pulls at nothing: a `LossSizeWarning`. A
    weight of one or more can still outweigh the data: a network that forgets what it had learned is named by a
    `CollapseWarning`.

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
    >>> bool(penalty(torch.randn(8, 3)) > 0)                   # added to the loss
    True
    >>> penalty.converged
    False
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
        weight: sampled form: of the penalty beside a loss whose natural size is about one (mean squared errors of
            standardised targets, cross entropy).
        loss_size: sampled form: what the natural size of the loss is if not about one: the variance of the targets for the mean
            squared error of targets that are not standardised. Penalty and loss then grow alike with the unit of the targets.
        max_strength: sampled form: bound of the strengths, and of their inverses.
        seed: sampled form: seed of the elements.
        representations: projection form: those of the input, of every hidden space and of the output, one more than the
            linear layers, which count in the order in which the model holds them. Each is a representation of a group that
            contains all candidates, or what makes one of a group, such as ``T(1)``. A layer whose output has the size of
            ``erlangen.nn.gated(rep)`` leads to that.
        strengths: projection form: the first strength of every symmetry, or one for all. Zero measures only.
        power: projection form: how sharply `ProjectionPenalty.adjust` tells symmetries apart.

    Returns:
        A module without parameters: add ``penalty(x)`` to the loss and read ``penalty.strengths``. Sampled form: the strengths
        follow at every call in training mode, and ``penalty.converged`` and ``penalty.collapsed`` tell what they are worth.
        Projection form: call ``penalty.adjust()`` once, or give ``penalty.schedule(...)`` to `erlangen.fit`.

    Raises:
        SymmetryError: no symmetries, ones on different spaces, or ends that move otherwise than the representations; for
            projection, ranges of groups.
        RepresentationError: `representations` is missing, or sizes do not fit the layers.
        ModelError: no linear layers.
        UnknownNameError: another method.
        ErlangenError: a number is out of range, strengths are negative or all zero.
    """
    symmetries = list(symmetries)
    if not symmetries or not all(isinstance(symmetry, Symmetry) for symmetry in symmetries):
        raise SymmetryError("symmetries must be a non-empty list of er.Symmetry(group, input=..., output=...)")
    if method == "projection":
        ranges = [symmetry.within.name for symmetry in symmetries if symmetry.within is not None]
        if ranges:
            raise SymmetryError(
                f"{ranges[0]} is no group, so no weights belong to it; take method='sampled', or the group"
            )
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
    if samples < 1 or max_strength <= 1 or not 0 <= weight < math.inf or not 0 < loss_size < math.inf:
        raise ErlangenError(
            f"samples = {samples}, weight = {weight}, max_strength = {max_strength}, loss_size = {loss_size}: samples must be 1 "
            "or more, the weight not negative, max_strength above 1, loss_size positive"
        )
    return SoftEquivariance(model, symmetries, samples, weight, max_strength, seed, loss_size)
