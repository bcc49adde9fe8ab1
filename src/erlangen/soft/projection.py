"""The projection form of `erlangen.relax`: how far the weights of linear layers are from equivariant ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Generator, Tensor, nn

from erlangen.actions import GroupAction, Tree
from erlangen.errors import ErlangenError, ModelError, RepresentationError, SymmetryError
from erlangen.groups import Group
from erlangen.reps import HomBasis, Rep, Scalar, hom_basis
from erlangen.soft._distances import Distances
from erlangen.symmetry import Symmetry

if TYPE_CHECKING:
    from erlangen.nn.reps.emlp import RepLike

SMALLEST = 1e-12
"""Violations below count as this much in the ratios of `ProjectionPenalty.adjust`."""


@dataclass(frozen=True)
class _Maps:
    """The equivariant weights and biases of a layer for one symmetry."""

    weights: HomBasis
    biases: HomBasis


def _has_bias(layer: nn.Linear) -> bool:
    return getattr(layer, "bias", None) is not None


def _spaces(layer: nn.Linear, maps: _Maps) -> list[HomBasis]:
    """The equivariant maps for each parameter of a layer."""
    return [maps.weights, maps.biases] if _has_bias(layer) else [maps.weights]


class ProjectionPenalty(nn.Module):
    """The penalty ``sum_j c_j R_j`` on the weights of linear layers; see `erlangen.relax`.

    Attributes:
        symmetries: the candidates.
        strengths: the ``c_j``, a buffer ``[J]``.
        recorded: the ``R_j`` that `adjust` will compare, ``[J]``; infinite before the first `record`.
    """

    strengths: Tensor
    recorded: Tensor

    def __init__(
        self,
        model: nn.Module,
        symmetries: Sequence[Symmetry],
        representations: Sequence[RepLike],
        strengths: float | Sequence[float],
        power: float,
    ) -> None:
        super().__init__()
        self.symmetries = list(symmetries)
        self.power = power
        if not math.isfinite(power) or power < 0:
            raise ErlangenError(f"power = {power}: give a number of at least 0")
        self._layers = linear_layers(model)
        self._maps = [_maps(self._layers, symmetry, representations) for symmetry in self.symmetries]
        self._distances: dict[tuple[object, ...], Distances] = {}
        self.register_buffer("strengths", _strengths(strengths, len(self.symmetries)))
        self.register_buffer("recorded", torch.full_like(self.strengths, math.inf))

    def violations(self) -> Tensor:
        """``R_j``: half the squared distance of all weights and biases to equivariant ones ``[J]``, with gradient."""
        maps, unit = self._entries(), torch.eye(len(self._maps)).tolist()
        return torch.stack([self._distance(strengths, maps[0])(maps) for strengths in unit])

    def forward(self, x: Tree | None = None) -> Tensor:
        """The penalty, a scalar to add to the loss. It depends on the weights alone; `x` is not looked at.

        Its gradient is ``sum_j c_j (I - P_j) W``; it has no second derivatives.
        """
        maps = self._entries()
        return self._distance(self.strengths.tolist(), maps[0])(maps)

    def _entries(self) -> list[Tensor]:
        """Weights and biases of all layers, in the dtype and on the device of the first."""
        entries = [
            p for layer in self._layers for p in ([layer.weight, layer.bias] if _has_bias(layer) else [layer.weight])
        ]
        return [p.to(entries[0]) for p in entries]

    def _distance(self, strengths: Sequence[float], like: Tensor) -> Distances:
        """What measures with these strengths; kept, as they change rarely, but not more than a few."""
        key = (*strengths, like.dtype, like.device)
        if key not in self._distances:
            if len(self._distances) > len(self._maps) + 1:
                self._distances.clear()
            spaces = [
                [space for layer, own in zip(self._layers, maps, strict=True) for space in _spaces(layer, own)]
                for maps in self._maps
            ]
            self._distances[key] = Distances(spaces, strengths, like)
        return self._distances[key]

    @torch.no_grad()
    def project(self, symmetry: int = 0) -> None:
        """Replace all weights and biases by the nearest ones that respect ``symmetries[symmetry]``."""
        for layer, maps in zip(self._layers, self._maps[symmetry], strict=True):
            layer.weight.copy_(maps.weights.project(layer.weight))
            if _has_bias(layer):
                layer.bias.copy_(maps.biases.project(layer.bias[:, None])[:, 0])

    @torch.no_grad()
    def record(self) -> Tensor:
        """Note the violations, if one of them is smaller than in the last note; returns the note ``[J]``."""
        now = self.violations().to(self.recorded)
        if bool((now < self.recorded).any()):
            self.recorded.copy_(now)
        return self.recorded.clone()

    @torch.no_grad()
    def adjust(self) -> Tensor:
        """Set the strengths by what data have done to the weights; returns them ``[J]``.

        ``c_j <- c_j / (R_j / min_k R_k)^power`` with the violations of the last `record`, or those of now; the minimum runs
        over symmetries with a strength. The one that is broken least keeps its strength, zero strengths stay zero.
        """
        noted = self.recorded if bool(self.recorded.isfinite().all()) else self.violations().to(self.recorded)
        self.strengths.copy_(adjusted(self.strengths, noted, self.power))
        return self.strengths.clone()

    def schedule(
        self, adjust_at: int, epochs: int, *, record: int | None = None
    ) -> Callable[[int, nn.Module, dict[str, float]], None]:
        """A callback for `erlangen.fit` that adjusts the strengths once.

        Args:
            adjust_at: epochs before the adjustment.
            epochs: epochs of the whole training.
            record: so many epochs before it, violations are recorded; a fifth of `adjust_at` by default.

        Raises:
            ErlangenError: ``1 <= record <= adjust_at < epochs`` does not hold.
        """
        window = max(1, adjust_at // 5) if record is None else record
        if not 1 <= window <= adjust_at < epochs:
            raise ErlangenError(
                f"adjust_at = {adjust_at}, record = {window}, epochs = {epochs}: strengths are adjusted once during training, "
                "so give 1 <= record <= adjust_at < epochs"
            )

        def step(epoch: int, model: nn.Module, row: dict[str, float]) -> None:
            if adjust_at - window <= epoch < adjust_at:
                self.record()
            if epoch == adjust_at - 1:
                self.adjust()
            row |= {f"strength_{j}": c for j, c in enumerate(self.strengths.tolist())}

        return step


def adjusted(strengths: Tensor, violations: Tensor, power: float) -> Tensor:
    """``c_j / (r_j / min_k r_k)^power``, the minimum over ``c_k > 0``; ``[J], [J]`` to ``[J]``."""
    r = violations.clamp_min(SMALLEST)
    return strengths / (r / r[strengths > 0].min()) ** power


def linear_layers(model: nn.Module) -> list[nn.Linear]:
    """The `torch.nn.Linear` layers in the order in which the model holds them."""
    if not isinstance(model, nn.Module):
        raise ModelError(f"model is a {type(model).__name__}; the projection form needs a torch module")
    layers = [layer for layer in model.modules() if isinstance(layer, nn.Linear)]
    if not layers:
        raise ModelError(
            f"{type(model).__name__} has no torch.nn.Linear layers, whose weights could be compared with equivariant ones; "
            "use method='sampled', which works for any model"
        )
    return layers


def _maps(layers: Sequence[nn.Linear], symmetry: Symmetry, representations: Sequence[RepLike]) -> list[_Maps]:
    """The equivariant maps of every layer for one symmetry."""
    from erlangen.nn.reps.gates import gated  # the layers take long to import, and `erlangen` imports this module

    if len(representations) != len(layers) + 1:
        raise RepresentationError(
            f"representations has {len(representations)} entries, but {len(layers)} linear layers need {len(layers) + 1}: "
            "those of the input, of every hidden space, and of the output"
        )
    reps = [_of_group(rep, symmetry.group, i) for i, rep in enumerate(representations)]
    _check_ends(symmetry, reps[0], reps[-1])
    found: list[_Maps] = []
    for i, (layer, rep_in, rep_out) in enumerate(zip(layers, reps, reps[1:], strict=False)):
        rep_out = rep_out if layer.out_features == rep_out.size else gated(rep_out)
        if (layer.in_features, layer.out_features) != (rep_in.size, rep_out.size):
            raise RepresentationError(
                f"linear layer {i} maps {layer.in_features} numbers to {layer.out_features}, but under "
                f"{symmetry.group.name} representations {i} and {i + 1} have sizes {rep_in.size} and {reps[i + 1].size} "
                f"({gated(reps[i + 1]).size} with gates); all symmetries need the sizes of the layers"
            )
        found.append(_Maps(hom_basis(rep_in >> rep_out), hom_basis(Scalar(symmetry.group) >> rep_out)))
    return found


def _of_group(rep: object, group: Group, index: int) -> Rep:
    """Representation `index` as one of the group: restricted to it, or made for it."""
    made = rep.restrict(group) if isinstance(rep, Rep) else rep(group) if callable(rep) else None
    if not isinstance(made, Rep):
        raise RepresentationError(
            f"representations[{index}] is {rep!r}; give a representation that can be restricted to {group.name}, or what "
            "makes one of a group, such as T(1)"
        )
    return made


def _check_ends(symmetry: Symmetry, rep_in: Rep, rep_out: Rep) -> None:
    """Raise `SymmetryError` unless the first and last representation move data as the symmetry declares."""
    for side, action, rep in (("input", symmetry.input, rep_in), ("output", symmetry.output, rep_out)):
        if not _agree(action, rep):
            raise SymmetryError(
                f"{symmetry!r}: its {side} action does not move flat vectors of size {rep.size} as the representation "
                f"{rep.name} does; declare the same action in both"
            )


def _agree(action: GroupAction, rep: Rep) -> bool:
    """Whether an action moves rows, flat or as ``[items, n]``, as the representation does."""
    generator, n = Generator().manual_seed(0), action.group.space_dim
    g = action.group.sample(4, generator=generator, dtype=torch.float64)
    x = torch.randn(4, rep.size, generator=generator, dtype=torch.float64)
    expected = rep.apply(g, x)
    shapes = [(rep.size,)] + ([(rep.size // n, n)] if n and rep.size % n == 0 else [])
    for shape in shapes:
        try:
            moved = action.act(g, x.reshape(4, *shape))
        except ErlangenError:
            continue  # the action takes data of the other shape
        if isinstance(moved, Tensor) and torch.allclose(moved.reshape(4, -1), expected, rtol=1e-6, atol=1e-9):
            return True
    return False


def _strengths(strengths: float | Sequence[float], count: int) -> Tensor:
    values = [float(strengths)] * count if isinstance(strengths, int | float) else [float(c) for c in strengths]
    if len(values) != count or not all(math.isfinite(c) and c >= 0 for c in values) or not any(values):
        raise ErlangenError(
            f"strengths = {strengths!r}: give a number, or one for each of the {count} symmetries, none negative and not all "
            "zero"
        )
    return torch.tensor(values)
