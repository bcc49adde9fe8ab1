"""Frechet cumulative covariance, and networks that maximise it: nonlinear reduction for responses in any metric space.

Yuan, Wang and Zhou, Frechet Cumulative Covariance Net for Deep Nonlinear Sufficient Dimension Reduction with Random Objects
(2025). Only distances of responses are used, and of these only which of two is larger.
"""

from __future__ import annotations

import itertools
import warnings
from typing import NamedTuple

import torch
from torch import Generator, Tensor, nn
from typing_extensions import override

from erlangen.errors import CollapseWarning, DataError, ErlangenError, ShapeError, check_finite, check_integer

MOST = 20_000
"""Samples above which all pairs do not fit into memory."""


class Balls(NamedTuple):
    """Who is in which ball, for `fccov`; it depends on the responses alone, so that it is made once.

    Attributes:
        order: samples by their distance from each centre, ``[m, n]``.
        last: the last place in that order with the same distance, for each place, ``[m, n]``.
    """

    order: Tensor
    last: Tensor


def balls(D: Tensor, centres: Tensor | None = None) -> Balls:
    """Orders of samples by their distance from centres.

    Args:
        D: distances of responses ``[n, n]``.
        centres: indices of the samples that are centres, by default all; a part of them, with all samples as members, saves time.

    Raises:
        DataError: D is no matrix of distances, or they are all equal.
        ErlangenError: more than 20,000 samples, all of them centres.
    """
    check_distances(D, centres)
    from_centre = (D if centres is None else D[:, centres]).mT.contiguous()  # [m, n]
    ranked, order = from_centre.sort(dim=1, stable=True)
    return Balls(order, torch.searchsorted(ranked, ranked, right=True) - 1)


def fccov(f: Tensor, D: Tensor | Balls, *, centres: Tensor | None = None) -> Tensor:
    """Frechet cumulative covariance of vectors f given responses with the distances D, a scalar that is never negative.

    >>> D = 1 - torch.eye(2).repeat_interleave(50, 0).repeat_interleave(50, 1)  # two classes, 50 samples each
    >>> fccov(torch.cat([torch.ones(50, 1), -torch.ones(50, 1)]), D)
    tensor(0.1250)

    ``n^-2 sum_{c,l} || n^-1 sum_i f_i 1{D_ic <= D_lc} ||^2`` with centred f: how far the means of f over balls of responses
    are from the mean of all. Zero in the population if and only if E[f | Y] is constant. By sorting, O(m n log n) for m centres.

    Args:
        f: ``[n, q]``.
        D: distances of responses ``[n, n]``, or their `balls`.
        centres: see `balls`.

    Raises:
        ShapeError: f does not have a row for each response.
        DataError, ErlangenError: see `balls`.
    """
    inside = D if isinstance(D, Balls) else balls(D, centres)
    n = inside.order.shape[1]
    _check_rows(f, n)
    f = f - f.mean(0)
    sums = f[inside.order].cumsum(1) / n  # [m, n, q]
    at_last = sums.gather(1, inside.last[..., None].expand_as(sums))
    return at_last.square().sum(-1).mean()


def fccov_kernel(D: Tensor, centres: Tensor | None = None, *, chunk: int = 32) -> Tensor:
    """The matrix K ``[n, n]`` with ``fccov = n^-2 tr(f^T K f)`` for centred f; symmetric and positive semidefinite.

    ``K_ij = 1/(n m) sum_c min(N_c(i), N_c(j))``, N_c(i) of the n distances from the centre c being at least that of i. O(m
    n^2), once; after that a step costs one product.

    Args:
        D, centres: see `balls`.
        chunk: centres at a time.
    """
    check_distances(D, centres)
    from_centre = (D if centres is None else D[:, centres]).mT.contiguous()
    n = len(D)
    outside = n - torch.searchsorted(from_centre.sort(dim=1).values, from_centre)  # N_c(i), [m, n]
    total = D.new_zeros(n, n)
    for part in outside.to(D.dtype).split(chunk):
        total += torch.minimum(part[:, :, None], part[:, None, :]).sum(0)
    return total / (n * len(from_centre))


def fccov_by_definition(f: Tensor, D: Tensor) -> Tensor:
    """`fccov` as its formula says, ball by ball; O(n^3)."""
    check_distances(D, None)
    _check_rows(f, len(D))
    f = f - f.mean(0)
    total = f.new_zeros(())
    for c in range(len(D)):
        for l in range(len(D)):
            total = total + f[D[:, c] <= D[l, c]].sum(0).div(len(D)).square().sum()
    return total / len(D) ** 2


def quadratic(f: Tensor, K: Tensor) -> Tensor:
    """``n^-2 tr(f^T K f)`` with centred f, in the dtype of f."""
    _check_rows(f, len(K))
    f = f - f.mean(0)
    return (f * (K.to(f) @ f)).sum() / len(K) ** 2


def check_distances(D: Tensor, centres: Tensor | None = None) -> None:
    """Raise unless D holds distances that order something."""
    if D.ndim != 2 or D.shape[0] != D.shape[1] or len(D) < 2:
        raise ShapeError(f"D has shape {tuple(D.shape)}; give the distances of all pairs of responses, [n, n]")
    if len(D) > MOST and centres is None:
        raise ErlangenError(f"D has {len(D)} samples, over {MOST}: pass centres, torch.randperm({len(D)})[:1000]")
    check_finite(D, "D")
    if bool((D < 0).any()):
        raise DataError(f"D has the negative entry {float(D.min()):.4g}; distances are not negative")
    scale = float(D.max())
    if float((D - D.mT).abs().max()) > 1e-5 * scale:
        raise DataError("D is not symmetric; give distances d(Y_i, Y_j), or symmetrise (D + D.mT) / 2")
    if float(D.diagonal().max()) > 1e-5 * scale:
        raise DataError(
            f"D has {float(D.diagonal().max()):.4g} on its diagonal; the distance of a response from itself is 0"
        )
    apart = D[~torch.eye(len(D), dtype=torch.bool, device=D.device)]
    if bool((apart == apart[0]).all()):
        raise DataError(f"all distances in D are {float(apart[0]):.4g}: they order nothing; use another metric")


def _check_rows(f: Tensor, n: int) -> None:
    if f.ndim != 2 or len(f) != n or not f.shape[1]:
        raise ShapeError(f"f has shape {tuple(f.shape)}; give [n, q] with a row for each of the {n} responses")


# --- objective -------------------------------------------------------------------------------------------------------
def centred(K: Tensor) -> Tensor:
    """K with rows and columns of mean zero."""
    return K - K.mean(0) - K.mean(1, keepdim=True) + K.mean()


def top(K: Tensor) -> float:
    """The largest eigenvalue of K / n, centred: divided by it, penalties mean the same for all statistics.

    Raises:
        DataError: it is not positive.
    """
    found = float(torch.linalg.eigvalsh(centred(K))[-1]) / len(K)
    if not found > 0:
        raise DataError(
            "K is zero or negative after centring; the responses do not differ, or their distances are no metric"
        )
    return found


def whitening_penalty(f: Tensor) -> Tensor:
    """``|| Cov_n(f) - I ||_F^2``, with divisor n."""
    f = f - f.mean(0)
    return (f.mT @ f / len(f) - torch.eye(f.shape[1], dtype=f.dtype, device=f.device)).square().sum()


def objective(f: Tensor, K: Tensor, penalty: float = 1.0) -> Tensor:
    """What the net minimises, ``-n^-2 tr(f^T K f) + penalty || Cov_n(f) - I ||_F^2``.

    Of a free f the minimum spans the top eigenvectors of K / n, centred, with covariance 1 + kappa / (2 penalty) along each.

    Raises:
        ErlangenError: fewer than eight samples, or fewer than q + 2.
    """
    n, q = f.shape
    if n < max(8, q + 2):
        raise ErlangenError(f"{n} samples in a batch; give at least {max(8, q + 2)}, for {q} coordinates")
    return penalty * whitening_penalty(f) - quadratic(f, K)


class Whitening(NamedTuple):
    """An affine map after which coordinates have covariance I, and are ordered by what each says of the response.

    Attributes:
        shift: ``[q]``, subtracted first.
        matrix: ``[q, q]``, on the right.
    """

    shift: Tensor
    matrix: Tensor

    def __call__(self, f: Tensor) -> Tensor:
        """Vectors ``[N, q]`` of any samples after the map."""
        return (f - self.shift) @ self.matrix


def whitening(f: Tensor, K: Tensor) -> Whitening:
    """The whitening of f ``[n, q]`` in its sample, turned so that its coordinates are those of largest ``n^-2 f^T K f`` in turn.

    Warns with `CollapseWarning` where a direction of f has next to no variance.

    Raises:
        ErlangenError: f is constant along a direction.
    """
    mean = f.mean(0)
    g = (f - mean).double()
    values, vectors = torch.linalg.eigh(g.mT @ g / len(g))
    ratio = float(values[0] / values[-1].clamp(min=1e-300))
    if not ratio > 100 * torch.finfo(f.dtype).eps:
        raise ErlangenError(
            "f has collapsed: its covariance is singular; train with a larger penalty, or fewer coordinates"
        )
    if ratio < 1e-3:
        warnings.warn(
            f"f has nearly collapsed: variances differ by a factor of {1 / ratio:.3g}; a larger penalty keeps them alike",
            CollapseWarning,
            stacklevel=2,
        )
    matrix = vectors * values.rsqrt()
    white = g @ matrix
    # Twice: what rounding leaves of the first time is removed by the second.
    again = torch.linalg.cholesky(white.mT @ white / len(g))
    matrix = torch.linalg.solve_triangular(again, matrix.mT, upper=False).mT
    white = g @ matrix
    turn = torch.linalg.eigh(white.mT @ (K.double() @ white)).eigenvectors.flip(1)
    return Whitening(mean, (matrix @ turn).to(f.dtype))


class ReductionNet(nn.Module):
    """A network f: R^p -> R^q, followed by the whitening that `whiten` finds after training.

    >>> model = ReductionNet(10, 2)
    >>> x = torch.randn(40, 10)
    >>> model.whiten(x, fccov_kernel(torch.cdist(x[:, :1], x[:, :1])))
    >>> torch.allclose(model(x).T.cov(correction=0), torch.eye(2), atol=1e-3)
    True

    Args:
        inputs, outputs: p and q.
        hidden: widths between them.
        net: another network, such as one for pictures, in place of the layers; `inputs` is the number of its entries then.

    Raises:
        ErlangenError: q is larger than p.
    """

    shift: Tensor
    matrix: Tensor

    def __init__(
        self, inputs: int, outputs: int, hidden: tuple[int, ...] = (64, 64), *, net: nn.Module | None = None
    ) -> None:
        super().__init__()
        check_integer("outputs", outputs, 1)
        if outputs > inputs:
            raise ErlangenError(
                f"outputs = {outputs} for {inputs} inputs; a reduction has no more coordinates than its inputs"
            )
        widths = (inputs, *hidden)
        layers: list[nn.Module] = []
        for a, b in itertools.pairwise(widths):
            layers += [nn.Linear(a, b), nn.ReLU()]
        self.net = net or nn.Sequential(*layers, nn.Linear(widths[-1], outputs))
        self.register_buffer("shift", torch.zeros(outputs))
        self.register_buffer("matrix", torch.eye(outputs))

    @override
    def forward(self, x: Tensor) -> Tensor:
        return (self.net(x) - self.shift) @ self.matrix

    @torch.no_grad()
    def whiten(self, x: Tensor, K: Tensor) -> None:
        """Fix the whitening on these inputs and the matrix of their responses."""
        found = whitening(self.net(x), K)
        self.shift.copy_(found.shift)
        self.matrix.copy_(found.matrix)


# --- closed forms ----------------------------------------------------------------------------------------------------
class Directions(NamedTuple):
    """Result of `spectral_reduction`.

    Attributes:
        matrix: coefficients ``[m, q]`` of features.
        values: ``n^-2 f^T K f`` of each coordinate, largest first, as many as there are features: their scree says how many
        count.
    """

    matrix: Tensor
    values: Tensor


def spectral_reduction(Z: Tensor, K: Tensor, outputs: int, *, ridge: float = 0.0) -> Directions:
    """Linear combinations f of features with the largest ``n^-2 tr(f^T K f)`` and covariance I, a generalised eigenproblem.

    With features of a reproducing kernel this is kernel reduction.

    Args:
        Z: features ``[n, m]``; they are centred.
        K: such as `fccov_kernel`.
        outputs: q.
        ridge: added to the covariance of features, in units of its mean eigenvalue.

    Raises:
        ErlangenError: fewer samples than q + 2, more coordinates than features, or features whose covariance is singular.
    """
    n, m = Z.shape
    if n < outputs + 2:
        raise ErlangenError(f"{n} samples for {outputs} coordinates; give at least {outputs + 2}")
    if outputs > m:
        raise ErlangenError(f"outputs = {outputs} of {m} features; ask for at most as many")
    C = Z - Z.mean(0)
    covariance = C.mT @ C / n
    covariance = covariance + ridge * covariance.diagonal().mean() * torch.eye(m, dtype=Z.dtype)
    root, info = torch.linalg.cholesky_ex(covariance)
    if int(info):
        raise ErlangenError("the covariance of features is singular; give a ridge, or drop features that repeat others")
    inner = C.mT @ (K.to(Z.dtype) @ C) / n**2
    half = torch.linalg.solve_triangular(root, inner, upper=False)
    values, vectors = torch.linalg.eigh(torch.linalg.solve_triangular(root, half.mT, upper=False))
    B = torch.linalg.solve_triangular(root.mT, vectors.flip(1)[:, :outputs], upper=True)
    return Directions(B, values.flip(0))


def permutation_test(f: Tensor, D: Tensor, permutations: int = 199, *, generator: Generator | None = None) -> float:
    """p-value of "E[f | Y] is constant": how many permutations of f have as large an `fccov`, the one that is there included."""
    check_integer("permutations", permutations, 1)
    n, K = len(D), fccov_kernel(D).to(f)
    _check_rows(f, n)
    f = f - f.mean(0)
    orders = torch.stack([torch.randperm(n, generator=generator) for _ in range(permutations)])
    shuffled = f[orders]  # [permutations, n, q]
    values = (shuffled * (K @ shuffled)).sum((1, 2))
    as_large = int((values >= (f * (K @ f)).sum() * (1 - 1e-12)).sum())
    return (1 + as_large) / (permutations + 1)
