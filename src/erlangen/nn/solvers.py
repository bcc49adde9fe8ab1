"""Layers whose output is the solution of a problem: least squares, and the nearest point that obeys linear constraints."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from typing_extensions import override

from erlangen.errors import ShapeError
from erlangen.solve.nonlinear import Curvature, Fitted, least_squares, project_linear

__all__ = ["LeastSquares", "LinearProjection"]


class LeastSquares(nn.Module):
    """The parameters that make residuals smallest, as a layer behind any network; see `erlangen.solve.least_squares`.

    >>> import torch
    >>> layer = LeastSquares(lambda w, y: torch.stack([w[0] - y[0], w[0] * w[0] - y[1]]), tol=1e-4)
    >>> layer(torch.ones(4, 1), torch.tensor([[2.0, 4.0]] * 4)).shape
    torch.Size([4, 1])

    Args:
        residual: ``residual(w, *args)`` of one sample; a module's parameters are trained through the solution.
        ridge, tol, steps, curvature: see `erlangen.solve.least_squares`.
    """

    def __init__(
        self,
        residual: Callable[..., Tensor],
        *,
        ridge: float = 0.0,
        tol: float = 1e-9,
        steps: int = 100,
        curvature: Curvature = "exact",
    ) -> None:
        super().__init__()
        self.residual, self.ridge, self.tol, self.steps = residual, ridge, tol, steps
        self.curvature: Curvature = curvature

    def solve(self, start: Tensor, *args: Tensor) -> Fitted:
        """The solution with what is known of it: cost, steps, whether it converged, its condition."""
        return least_squares(
            self.residual, start, *args, ridge=self.ridge, tol=self.tol, steps=self.steps, curvature=self.curvature
        )

    def forward(self, start: Tensor | tuple[Tensor, ...], *args: Tensor) -> Tensor:
        """Solutions ``[B, n]``.

        Args:
            start: ``[B, n]``; or this and the arguments in one tuple.
            args: of each sample, ``[B, ...]``.
        """
        given = (start, *args) if isinstance(start, Tensor) else start
        return given[0] if not len(given[0]) else self.solve(*given).w


class LinearProjection(nn.Module):
    """The nearest point with ``C u = d``, exactly and in closed form: conservation laws behind any network.

    >>> import torch
    >>> layer = LinearProjection(torch.ones(1, 3), torch.tensor([1.0]))
    >>> layer(torch.tensor([[1.0, 2.0, 4.0]])).round().abs().tolist()
    [[1.0, 0.0, 2.0]]

    Args:
        C: constraints ``[k, n]`` that do not depend on each other.
        d: ``[k]``; zeros without it.

    Raises:
        ShapeError: shapes do not fit.
        ErlangenError: constraints depend on each other.
    """

    C: Tensor
    d: Tensor

    def __init__(self, C: Tensor, d: Tensor | None = None) -> None:
        super().__init__()
        if C.ndim != 2:
            raise ShapeError(f"C has shape {tuple(C.shape)}; give constraints [k, n]")
        d = C.new_zeros(len(C)) if d is None else d
        project_linear(C.new_zeros(C.shape[1]), C, d)  # tells what is wrong with them
        self.register_buffer("C", C.clone())
        self.register_buffer("d", d.clone())

    def forward(self, u: Tensor) -> Tensor:
        """Points ``[..., n]`` that obey the constraints, the nearest to those given."""
        return project_linear(u, self.C, self.d)

    @override
    def extra_repr(self) -> str:
        return f"constraints={len(self.C)}, features={self.C.shape[1]}"
