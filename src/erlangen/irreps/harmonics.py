"""Real spherical and solid harmonics up to degree 16, with derivatives of any order."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from erlangen.errors import DtypeError, IrrepsError, ShapeError, is_whole
from erlangen.irreps import _recursion, _sphericart
from erlangen.irreps.cache import constant

MAX_DEGREE = 16
"""Largest degree of `spherical_harmonics`; the tests compare every degree up to it with scipy."""
NORMALIZATIONS = ("integral", "component", "norm")


def spherical_harmonics(
    degrees: int | Sequence[int],
    x: Tensor,
    normalize: bool = True,
    normalization: str = "integral",
) -> Tensor:
    """Real spherical harmonics in e3nn's convention: polar axis y, degree 1 is (x, y, z), order m = -l..l.

    In spherical coordinates around y (``x = r sin(b) sin(a)``, ``y = r cos(b)``, ``z = r sin(b) cos(a)``) the
    function (l, m) is a positive multiple of ``P_l^|m|(cos b)`` times ``cos(m a)`` for m >= 0 and ``sin(|m| a)``
    for m < 0, without the Condon-Shortley sign. They are polynomials in x, y, z, computed by recursion without
    trigonometric functions, so nothing special happens at the poles. Rotation: ``Y(x @ R.mT) = Y(x) @ D.mT``
    with D from `wigner_D`.

    >>> spherical_harmonics([1], torch.tensor([0.0, 3.0, 4.0]), normalization="norm")
    tensor([0.0000, 0.6000, 0.8000])

    Args:
        degrees: the largest degree, for **all** degrees 0..degrees (e3nn would give that degree alone), or a list
            of degrees, whose blocks follow each other in that order.
        x: points ``[..., 3]``, float32 or float64.
        normalize: evaluate at x / |x|. Without it the solid harmonics ``|x|^l Y_l(x / |x|)`` are returned.
        normalization: "integral" (orthonormal on the sphere), "component" (``|Y_l|^2 = 2l + 1`` on the sphere) or
            "norm" (``|Y_l| = 1``).

    Returns:
        ``[..., (degrees + 1)^2]`` with flat index ``l^2 + l + m``, or ``[..., sum(2l + 1)]`` for a list. In memory
        the functions come first and the points last; where sphericart computes them (see `use_sphericart`) the points come
        first. Call ``.contiguous()`` where the latter is needed.

    Accuracy, relative to the largest value: 2e-13 in float64; in float32 3e-6 up to l = 6, 2e-5 up to l = 16, because
    close to the poles the rounding of x / |x| is multiplied by ``l (l + 1) / 2``.

    With `normalize`, zero vectors give 0 for l >= 1, with gradient 0: they have no direction. Works with double
    backward, `torch.func` (vmap, jvp, jacrev, hessian) and `torch.compile`; the older ``vectorize=True`` of
    `torch.autograd.functional` is not supported.

    Raises:
        IrrepsError: a degree is not an integer in 0..16, or the normalisation is unknown.
        ShapeError: the last dimension of x is not 3.
        DtypeError: x is not float32 or float64; half precision loses all digits in the recursion.
    """
    wanted = _check_degrees(degrees)
    _check_arguments(x, normalization)
    lmax = max(wanted, default=0)
    evaluate = _traceable if torch.compiler.is_compiling() else _Harmonics.apply
    Y = evaluate(x, lmax, normalize, normalization)
    if wanted == list(range(lmax + 1)):
        return Y
    blocks = [Y[..., l * l : (l + 1) ** 2] for l in wanted]
    return torch.cat(blocks, -1) if blocks else Y[..., :0]


# --- autograd -----------------------------------------------------------------------------------------------
class _Harmonics(torch.autograd.Function):
    """The fused recursion; its derivative is `_Gradient` backward and `_directional` forward."""

    @staticmethod
    def forward(x: Tensor, lmax: int, normalize: bool, normalization: str) -> Tensor:
        made = _sphericart.calculator(lmax, x)
        if made is not None:
            return _sphericart.evaluate(made, x, lmax, normalize, normalization)
        # Allocated with its final strides: a view would not be allowed as a dual number.
        batch, functions = x.shape[:-1], (lmax + 1) ** 2
        strides = [math.prod(batch[i + 1 :]) for i in range(len(batch))]
        out = torch.empty_strided(
            (*batch, functions), (*strides, max(batch.numel(), 1)), dtype=x.dtype, device=x.device
        )
        table = out.movedim(-1, 0).view(functions, batch.numel())
        _recursion.fill_harmonics(table, x.reshape(-1, 3), lmax, normalize, normalization)
        return out

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, *ctx.options = inputs
        ctx.save_for_backward(x)
        ctx.save_for_forward(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (x,) = ctx.saved_tensors
        return _Gradient.apply(x, grads[0], *ctx.options), None, None, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Tensor:
        (x,) = ctx.saved_tensors
        return _directional(x, tangents[0], *ctx.options)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], x: Tensor, *options: Any) -> tuple[Tensor, int]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return _Harmonics.apply(x.movedim(in_dims[0], 0), *options), 0


class _Gradient(torch.autograd.Function):
    """``J(x)^T grad``, fused. It is differentiated through the formula of `_pulled_back`, for any order."""

    @staticmethod
    def forward(x: Tensor, grad: Tensor, lmax: int, normalize: bool, normalization: str) -> Tensor:
        flat = _recursion.gradient(x.reshape(-1, 3), grad.reshape(-1, grad.shape[-1]), lmax, normalize, normalization)
        return flat.view(x.shape)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, grad, *ctx.options = inputs
        ctx.save_for_backward(x, grad)
        ctx.save_for_forward(x, grad)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        def formula(x: Tensor, grad: Tensor) -> Tensor:
            return _pulled_back(x, grad, *ctx.options)

        pull = torch.func.vjp(formula, *ctx.saved_tensors)[1]
        return *pull(grads[0]), None, None, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Tensor:
        x, grad = ctx.saved_tensors
        # Linear in grad; the derivative in x is symmetric, so it is the transposed derivative of J(x) t.
        first = _pulled_back(x, tangents[1], *ctx.options) if tangents[1] is not None else torch.zeros_like(x)
        if tangents[0] is None:
            return first
        pull = torch.func.vjp(lambda p: _pulled_back(p, grad, *ctx.options), x)[1]
        return first + pull(tangents[0])[0]

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], x: Tensor, grad: Tensor, *options: Any) -> tuple[Tensor, int]:  # pyright: ignore[reportIncompatibleMethodOverride]
        x, grad = (
            t.movedim(d, 0) if d is not None else t.expand(info.batch_size, *t.shape)
            for t, d in zip((x, grad), in_dims[:2], strict=True)
        )
        return _Gradient.apply(x, grad, *options), 0


def _pulled_back(x: Tensor, grad: Tensor, lmax: int, normalize: bool, normalization: str) -> Tensor:
    """``J(x)^T grad`` in differentiable operations: derivatives of degree l are combinations of degree l - 1."""
    if lmax == 0:
        return torch.zeros_like(x) + 0 * grad.sum(-1, keepdim=True)
    point, inverse_length = _unit(x) if normalize else (x, None)
    below = _Harmonics.apply(point, lmax - 1, False, normalization)
    weights = (grad @ derivative_matrix(lmax, normalization).to(grad)).unflatten(-1, (3, lmax**2))
    return _tangent((weights * below[..., None, :]).sum(-1), point, inverse_length)


def _directional(x: Tensor, tangent: Tensor, lmax: int, normalize: bool, normalization: str) -> Tensor:
    """``J(x) tangent`` in differentiable operations."""
    if lmax == 0:
        return torch.zeros_like(x[..., :1]) + 0 * tangent[..., :1]
    point, inverse_length = _unit(x) if normalize else (x, None)
    below = _Harmonics.apply(point, lmax - 1, False, normalization)
    moved = _tangent(tangent, point, inverse_length)
    return (moved[..., :, None] * below[..., None, :]).flatten(-2) @ derivative_matrix(lmax, normalization).to(x).mT


def _tangent(vector: Tensor, point: Tensor, inverse_length: Tensor | None) -> Tensor:
    """Derivative of x / |x|, a symmetric matrix, applied to a vector; the vector itself without normalisation."""
    if inverse_length is None:
        return vector
    return (vector - point * (vector * point).sum(-1, keepdim=True)) * inverse_length


def _unit(x: Tensor) -> tuple[Tensor, Tensor]:
    """x / |x| and 1 / |x|, both 0 (with derivative 0) at x = 0; scaled so that squares cannot overflow."""
    largest = x.detach().abs().amax(-1, keepdim=True)
    zero = largest == 0
    scaled = x / torch.where(zero, 1.0, largest)
    length = torch.where(zero, 1.0, scaled.square().sum(-1, keepdim=True)).sqrt()
    unit = torch.where(zero, 0.0, scaled / length)
    return unit, torch.where(zero, 0.0, 1 / (torch.where(zero, 1.0, largest) * length))


@constant
def derivative_matrix(lmax: int, normalization: str) -> Tensor:
    """The matrix G of ``d/dx_k Y_i(x) = sum_j G[i, k, j] Y_j(x)``, degrees of j one less, solid harmonics.

    Float64 ``[(lmax + 1)^2, 3 lmax^2]``. With ``R_lm = r^l P_l^m e^(im a) / (l + m)!`` all coefficients are
    +-1 and +-1/2 (Epton and Dembart, SIAM J. Sci. Comput. 16, 1995, section 2).
    """
    G = torch.zeros((lmax + 1) ** 2, 3, lmax**2, dtype=torch.float64)
    for l in range(1, lmax + 1):
        for m in range(-l, l + 1):
            for axis, order, value in _ladder(m):
                if abs(order) < l:
                    ratio = _ladder_scale(l, m, normalization) / _ladder_scale(l - 1, order, normalization)
                    G[l * l + l + m, axis, (l - 1) ** 2 + l - 1 + order] = value * ratio
    return G.flatten(1)


def _ladder(m: int) -> list[tuple[int, int, float]]:
    """Terms (axis of x, order in degree l - 1, coefficient) of the derivative of R_lm, m < 0 the sine functions."""
    # The axes are those of this library: the polar axis y is 1, cosines belong to z (2), sines to x (0).
    if m == 0:
        return [(1, 0, 1.0), (2, 1, -1.0), (0, -1, -1.0)]
    s = 1 if m > 0 else -1
    terms = [(1, m, 1.0), (2, m + s, -0.5), (0, -m - s, -0.5 * s)]
    # Lowering sin(a) gives sin(0 a) = 0 along z; in the other direction the function is cos(0 a).
    if m != -1:
        terms.append((2, m - s, 0.5))
    if m != 1:
        terms.append((0, -m + s, -0.5 * s))
    return terms


def _ladder_scale(l: int, m: int, normalization: str) -> float:
    a = abs(m)
    square = (2 * l + 1) * math.factorial(l - a) * math.factorial(l + a) / (4 * math.pi) * (2 if m else 1)
    return _recursion.degree_factor(l, normalization) * math.sqrt(square)


def _traceable(x: Tensor, lmax: int, normalize: bool, normalization: str) -> Tensor:
    """The recursion without writing in place, for a compiler, which does the fusing itself."""
    point = _unit(x)[0] if normalize else x
    rho = point.square().sum(-1, keepdim=True)
    v, w, u = point.split(1, -1)
    factors = _recursion.constants(lmax, normalization, x.dtype, x.device)
    rows = [torch.ones_like(w), torch.cat([v, w, u], -1)]
    for l in range(2, lmax + 1):
        below, two_below, beta = rows[l - 1], rows[l - 2], factors.beta[l]
        assert beta is not None
        sine, cosine = below[..., :1], below[..., -1:]
        step = two_below * beta[:, 0] * rho
        inner = w * below + torch.nn.functional.pad(step, (1, 1))
        rows.append(torch.cat([u * sine + v * cosine, inner, u * cosine - v * sine], -1))
    return torch.cat(rows[: lmax + 1], -1) * factors.scale[:, 0]


# --- checks -------------------------------------------------------------------------------------------------
def _check_degrees(degrees: int | Sequence[int]) -> list[int]:
    wanted = list(range(degrees + 1)) if isinstance(degrees, int) else list(degrees)
    listed = [degrees] if isinstance(degrees, int) else wanted
    for l in listed:
        if not is_whole(l, 0, MAX_DEGREE):
            raise IrrepsError(f"degrees has {l!r}, but spherical harmonics have integer degrees in 0..{MAX_DEGREE}")
    return wanted


def _check_arguments(x: Tensor, normalization: str) -> None:
    if normalization not in NORMALIZATIONS:
        raise IrrepsError(f"normalization is {normalization!r}; choose one of {', '.join(NORMALIZATIONS)}")
    if x.ndim == 0 or x.shape[-1] != 3:
        raise ShapeError(f"x has shape {tuple(x.shape)}, but points [..., 3] are needed")
    if x.dtype not in (torch.float32, torch.float64):
        raise DtypeError(
            f"x has dtype {x.dtype}, but the recursion needs float32 or float64; call x.float() and cast the result"
        )
