"""How far predicted trajectories are from true ones, in the metrics of motion forecasting."""

from __future__ import annotations

from torch import Tensor

from erlangen.errors import ShapeError

__all__ = ["average_displacement", "best_of", "final_displacement"]


def average_displacement(prediction: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
    """The average displacement error (ADE) ``[...]`` of trajectories: mean distance over agents and frames.

    Args:
        prediction, target: positions ``[..., N, T, n]`` of N agents in T frames.
        mask: agents that exist, bool ``[..., N]``; only they count.

    Returns:
        In the units of positions; zero where no agent exists.

    Raises:
        ShapeError: shapes differ, or the mask does not fit.
    """
    return _mean_over_agents(_distances(prediction, target).mean(-1), mask)


def final_displacement(prediction: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
    """The final displacement error (FDE) ``[...]``: mean distance over agents in the last frame. See `average_displacement`."""
    return _mean_over_agents(_distances(prediction, target)[..., -1], mask)


def best_of(prediction: Tensor, target: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The smallest ADE and the smallest FDE among K predictions, each agent's by itself, as is usual for pedestrians.

    Args:
        prediction: ``[K, ..., N, T, n]``.
        target: ``[..., N, T, n]``.
        mask: agents that exist, bool ``[..., N]``.

    Returns:
        ADE and FDE ``[...]``, means over agents. The best prediction for one need not be that for the other.

    Raises:
        ShapeError: shapes do not fit.
    """
    if prediction.dim() != target.dim() + 1:
        raise ShapeError(f"prediction {tuple(prediction.shape)} needs one axis more than target {tuple(target.shape)}")
    away = _distances(prediction, target.expand_as(prediction))
    return _mean_over_agents(away.mean(-1).amin(0), mask), _mean_over_agents(away[..., -1].amin(0), mask)


def _distances(prediction: Tensor, target: Tensor) -> Tensor:
    if prediction.shape != target.shape or prediction.dim() < 3:
        raise ShapeError(
            f"prediction {tuple(prediction.shape)} and target {tuple(target.shape)} must both be [..., N, T, n]"
        )
    return (prediction - target).norm(dim=-1)


def _mean_over_agents(x: Tensor, mask: Tensor | None) -> Tensor:
    if mask is None:
        return x.mean(-1)
    if mask.shape != x.shape:
        raise ShapeError(f"mask has shape {tuple(mask.shape)}; there are agents {tuple(x.shape)}")
    weight = mask.to(x.dtype)
    return (x * weight).sum(-1) / weight.sum(-1).clamp(min=1)
