"""er.relax: a soft-equivariance penalty with one learned strength per symmetry."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Generator, Tensor, nn

from erlangen.actions import Tree, tree_leaves, tree_map
from erlangen.errors import ErlangenError, SymmetryError
from erlangen.measure.checks import batch_length, check_action, take
from erlangen.measure.evaluate import on_orbit, squares
from erlangen.symmetry import Symmetry


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


def relax(
    model: nn.Module, symmetries: Sequence[Symmetry], *, samples: int = 4, max_strength: float = 100.0, seed: int = 0
) -> SoftEquivariance:
    """A penalty that pulls a model towards several symmetries at once and learns how strongly each one deserves it.

    With ``r_j`` the relative violation of symmetry j on sampled elements, the penalty is ``sum_j c_j r_j - log c_j``, whose
    minimum over the strength is ``c_j = 1 / r_j``: the task-uncertainty weighting of Kendall, Gal and Cipolla (CVPR 2018). A
    symmetry that the data contradict keeps a large violation and so loses its strength; one that holds gains it.

    Args:
        model: the model in training; it stays as it is.
        symmetries: the candidates, on the same inputs and outputs.
        samples: group elements per call and symmetry.
        max_strength: bound of the strengths, and of their inverses.
        seed: seed of the elements.

    Returns:
        A module: add ``penalty(x)`` to the loss and ``penalty.parameters()`` to the optimizer; read ``penalty.strengths``.

    >>> import torch, erlangen as er
    >>> net = torch.nn.Linear(3, 2)
    >>> penalty = er.relax(net, [er.Symmetry("SO(3)", input="vectors", output="invariant")])
    >>> bool(penalty(torch.randn(8, 3)) > 0)
    True
    """
    symmetries = list(symmetries)
    if not symmetries or not all(isinstance(symmetry, Symmetry) for symmetry in symmetries):
        raise SymmetryError("symmetries must be a non-empty list of er.Symmetry(group, input=..., output=...)")
    if samples < 1 or max_strength <= 1:
        raise ErlangenError(
            f"samples = {samples}, max_strength = {max_strength}: samples must be 1 or more, max_strength above 1"
        )
    return SoftEquivariance(model, symmetries, samples, max_strength, seed)
