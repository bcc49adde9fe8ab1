"""Pair forces between particles: inverse square and springs."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from erlangen.errors import ErlangenError

__all__ = ["Hooke", "InverseSquare", "PairLaw"]


class PairLaw(ABC):
    """A central pair force, as functions of the squared distance ``r2`` and per unit of coupling."""

    @abstractmethod
    def potential(self, r2: Tensor) -> Tensor:
        """Energy of a pair, of the shape of `r2`."""

    @abstractmethod
    def push(self, r2: Tensor) -> Tensor:
        """The factor of ``x_i - x_j`` in the force on i, of the shape of `r2`; positive values repel."""


@dataclass(frozen=True)
class InverseSquare(PairLaw):
    """Coulomb's and Newton's law, softened (Plummer): ``potential = strength / sqrt(r^2 + softening^2)``.

    Args:
        strength: factor of force and energy.
        softening: length below which the force falls to zero instead of growing; 0 is the bare law, which no fixed
            step resolves in close encounters.

    Raises:
        ErlangenError: `softening` is negative, or a value is not finite.
    """

    strength: float = 1.0
    softening: float = 0.1

    def __post_init__(self) -> None:
        check_number("strength", self.strength)
        check_number("softening", self.softening, least=0.0)

    def potential(self, r2: Tensor) -> Tensor:
        """Energy of a pair, of the shape of `r2`."""
        return self.strength * torch.rsqrt(r2 + self.softening**2)

    def push(self, r2: Tensor) -> Tensor:
        """``strength / (r^2 + softening^2)^(3/2)``."""
        soft = r2 + self.softening**2
        return torch.rsqrt(soft).div_(soft).mul_(self.strength)


@dataclass(frozen=True)
class Hooke(PairLaw):
    """Springs of rest length zero: ``potential = stiffness r^2 / 2``.

    Raises:
        ErlangenError: `stiffness` is not finite.
    """

    stiffness: float = 0.1

    def __post_init__(self) -> None:
        check_number("stiffness", self.stiffness)

    def potential(self, r2: Tensor) -> Tensor:
        """Energy of a pair, of the shape of `r2`."""
        return 0.5 * self.stiffness * r2

    def push(self, r2: Tensor) -> Tensor:
        """The constant ``-stiffness``."""
        return torch.full_like(r2, -self.stiffness)


def check_number(
    name: str, value: float, *, least: float = -math.inf, above: float = -math.inf, most: float = math.inf
) -> None:
    """Raise `ErlangenError` unless the value is finite and within the limits."""
    if not (math.isfinite(value) and value >= least and value > above and value <= most):
        limits = [
            f"{sign} {limit:g}" for sign, limit in ((">=", least), (">", above), ("<=", most)) if math.isfinite(limit)
        ]
        raise ErlangenError(f"{name} = {value!r}; pass a finite number{' ' if limits else ''}{' and '.join(limits)}")
