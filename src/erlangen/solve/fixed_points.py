"""Fixed points of batched maps, with a certificate for each sample and exact gradients through the answer."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from erlangen.errors import (
    ErlangenError,
    NotConvergedWarning,
    NotFiniteError,
    ShapeError,
    UnknownNameError,
    check_integer,
    first_index,
)

Solver = Literal["iterate", "anderson"]
"""Plain iteration, or Anderson's mixing of the last iterates."""

OnUnsettled = Literal["warn", "error", "allow"]
"""What happens to samples that have not settled."""


class FixedPoint(NamedTuple):
    """What `fixed_point` found.

    Attributes:
        x: ``[B, ...]``.
        residual: ``|f(x) - x|`` of each sample ``[B]``: a cycle of any length has a large one.
        settled: which residuals are at most the tolerance, boolean ``[B]``.
        steps: calls of f.
    """

    x: Tensor
    residual: Tensor
    settled: Tensor
    steps: int


def fixed_point(
    f: Callable[[Tensor], Tensor],
    x: Tensor,
    *,
    solver: Solver = "iterate",
    tol: float = 1e-6,
    steps: int = 500,
    memory: int = 5,
    gradient: Literal["implicit", "none"] = "implicit",
    on_unsettled: OnUnsettled = "warn",
) -> FixedPoint:
    """Solve ``f(x) = x`` for every sample of a batch.

    >>> found = fixed_point(torch.cos, torch.zeros(3, dtype=torch.float64), tol=1e-12)
    >>> found.x[0].item()  # doctest: +ELLIPSIS
    0.73908513321...
    >>> a = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    >>> found = fixed_point(lambda x: a * x + 1, torch.zeros(1, dtype=torch.float64), tol=1e-14)
    >>> found.x.sum().backward(); round(a.grad.item(), 9)  # x = 1/(1 - a)
    4.0

    A sample that has settled is not moved any further, so answers do not depend on what else is in the batch, as long as f
    treats the samples one by one.

    Args:
        f: maps ``[B, ...]`` to the same shape, sample by sample; real or complex.
        x: where to start.
        solver: "iterate" takes ``x <- f(x)``; "anderson" mixes the last `memory` iterates (Walker and Ni 2011), which settles
            faster, and also where plain iteration goes round in circles.
        tol: of the residual, the Euclidean norm of ``f(x) - x`` of a sample.
        steps: largest number of calls of f, also for the linear system of the gradient.
        memory: iterates that "anderson" keeps.
        gradient: "implicit" gives x the derivative of the fixed point by everything that f depends on, by solving
            ``g = v + J^T g`` in the backward pass with the same solver and tolerance (recurrent back-propagation, Almeida
            1987, Pineda 1987); where no gradient is needed it costs one call. First derivatives alone.
        on_unsettled: "warn" names the worst sample in a `NotConvergedWarning`, "error" raises, "allow" leaves it to `settled`.

    Raises:
        NotFiniteError: an iterate is NaN or Inf; the map runs away.
        ShapeError: f changes the shape.
        ErlangenError: samples that have not settled, with ``on_unsettled="error"``.
    """
    check_integer("steps", steps, 1)
    check_integer("memory", memory, 1)
    if solver not in ("iterate", "anderson"):
        raise UnknownNameError(f"solver = {solver!r}: choose 'iterate' or 'anderson'")
    if gradient not in ("implicit", "none"):
        raise UnknownNameError(f"gradient = {gradient!r}: choose 'implicit' or 'none'")
    if on_unsettled not in ("warn", "error", "allow"):
        raise UnknownNameError(f"on_unsettled = {on_unsettled!r}: choose 'warn', 'error' or 'allow'")
    if not tol > 0:
        raise ErlangenError(f"tol = {tol}: give a positive number")
    if not x.ndim:
        raise ShapeError("x has no batch axis; give [B, ...]")
    with torch.no_grad():
        found = _solve(f, x.detach(), solver, tol, steps, memory)
    _tell(found, tol, on_unsettled, "fixed_point")
    if gradient == "none" or not torch.is_grad_enabled():
        return found
    if not len(x) or not f(found.x).requires_grad:  # nothing that f is made of needs a gradient
        return found
    leaf = found.x.detach().requires_grad_()
    image = f(leaf)

    def adjoint(v: Tensor) -> Tensor:
        def pulled(g: Tensor) -> Tensor:
            # The graph is kept: a backward pass asks for it once in each step.
            (back,) = torch.autograd.grad(image, leaf, g, retain_graph=True, allow_unused=True, materialize_grads=True)
            return v + back

        solution = _solve(pulled, v, solver, tol, steps, memory)
        _tell(solution, tol, on_unsettled, "the gradient of fixed_point")
        return solution.x

    # The image carries the derivative by everything that f depends on, the solved cotangent that of the equation.
    x_out = _with_gradient(found.x, image, adjoint)
    return found._replace(x=x_out)


class _Implicit(torch.autograd.Function):
    @staticmethod
    def forward(value: Tensor, image: Tensor, adjoint: Callable[[Tensor], Tensor]) -> Tensor:
        return value.clone()

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:  # pyright: ignore
        ctx.adjoint = inputs[2]

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, v: Tensor) -> tuple[None, Tensor, None]:  # pyright: ignore
        return None, ctx.adjoint(v), None


def _with_gradient(value: Tensor, image: Tensor, adjoint: Callable[[Tensor], Tensor]) -> Tensor:
    return _Implicit.apply(value, image, adjoint)  # pyright: ignore[reportReturnType]


def _solve(f: Callable[[Tensor], Tensor], x: Tensor, solver: Solver, tol: float, steps: int, memory: int) -> FixedPoint:
    shape = x.shape
    B = shape[0]

    def flat(y: Tensor) -> Tensor:
        image = f(y.reshape(shape))
        if image.shape != shape:
            raise ShapeError(f"f maps {tuple(shape)} to {tuple(image.shape)}; a fixed point needs one shape")
        if not bool(torch.isfinite(image).all()):
            index = first_index(~torch.isfinite(image.reshape(B, -1)).all(1))[0]
            raise NotFiniteError(f"sample {index}: f runs away to NaN or Inf; damp it, f(x) = (1 - a) x + a f(x)")
        return image.reshape(B, -1).detach()

    y = x.reshape(B, -1) if B else x.reshape(0, 1)
    if not B:
        empty = torch.zeros(0, dtype=torch.float64 if x.dtype == torch.float64 else torch.float32, device=x.device)
        return FixedPoint(x, empty, empty > 0, 0)
    # A linear system hands over a start of another dtype where f promotes it.
    image = flat(y)
    y = y.to(image.dtype)
    residual = (image - y).norm(dim=1)
    settled = residual <= tol
    points, images = [y], [image]
    used = 1
    while used < steps and not bool(settled.all()):
        step = image if solver == "iterate" else _mixed(points, images)
        y = torch.where(settled[:, None], y, step)
        image = flat(y)
        used += 1
        residual = (image - y).norm(dim=1)
        settled = residual <= tol
        points, images = [*points, y][-memory - 1 :], [*images, image][-memory - 1 :]
    return FixedPoint(y.reshape(shape), residual, settled, used)


def _mixed(points: list[Tensor], images: list[Tensor]) -> Tensor:
    """Anderson's step: the combination of the last images whose residual is smallest, sample by sample."""
    X, Y = torch.stack(points, 1), torch.stack(images, 1)
    if X.shape[1] == 1:
        return Y[:, -1]
    R = Y - X
    dR, dY = R.diff(dim=1), Y.diff(dim=1)
    gram = dR.conj() @ dR.mT
    # Differences of settled samples vanish; what regularises is small against the others and harmless for these.
    size = gram.diagonal(dim1=-2, dim2=-1).abs().sum(-1)[:, None, None]
    eye = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    tiny = torch.finfo(gram.dtype).eps
    gram = gram + (tiny * size + (size == 0).to(size.dtype)) * eye
    weights = torch.linalg.solve(gram, dR.conj() @ R[:, -1, :, None])
    return Y[:, -1] - (weights * dY).sum(1)


def _tell(found: FixedPoint, tol: float, how: OnUnsettled, what: str) -> None:
    if how == "allow" or bool(found.settled.all()):
        return
    worst = int(found.residual.argmax())
    message = (
        f"{what}: {int((~found.settled).sum())} of {len(found.settled)} samples have not settled in {found.steps} steps; the "
        f"residual of sample {worst} is {float(found.residual[worst]):.2g}, above tol = {tol:.2g}; take more steps, "
        "solver='anderson', or a map that contracts"
    )
    if how == "error":
        raise ErlangenError(message)
    warnings.warn(message, NotConvergedWarning, stacklevel=3)
