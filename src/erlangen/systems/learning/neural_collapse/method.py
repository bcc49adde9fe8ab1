"""Global optima of deep linear networks on free features: their geometry, the objective, and measures of collapse.

M linear layers W_M ... W_1 on features H, one column for each of N samples, with decay on all of them (Dang et al. 2023):
1/(2N) ||W_M ... W_1 H + b 1^T - Y||^2 + sum_m decay_m / 2 ||W_m||^2 + feature_decay / 2 ||H||^2. Here samples are rows.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from scipy.optimize import brentq, minimize_scalar
from torch import Tensor, nn
from typing_extensions import override

from erlangen.errors import (
    CollapseWarning,
    DataError,
    ErlangenError,
    ShapeError,
    UnknownNameError,
    check_finite,
    check_integer,
    check_sizes,
    first_index,
)
from erlangen.geometry import gram_distance, simplex_etf
from erlangen.learn import ClassStatistics
from erlangen.solve import power_prox
from erlangen.tracing import is_traced

Decay = float | Sequence[float]
"""One decay for all layers, or one for each, from the first layer to the last."""


class DeepLinearHead(nn.Module):
    """M linear layers on top of features, of which only the last may have a bias; logits ``[B, K]`` of features ``[B, dim]``.

    Args:
        dim: of the features.
        n_classes: K.
        layers: M.
        width: of the layers between; `dim` without it. The theorems ask for at least K everywhere.
        bias: whether the last layer has one; it is not decayed.
    """

    def __init__(
        self, dim: int, n_classes: int, layers: int = 1, *, width: int | None = None, bias: bool = False
    ) -> None:
        super().__init__()
        width = dim if width is None else width
        check_sizes(dim=dim, n_classes=n_classes, layers=layers, width=width)
        sizes = [dim, *[width] * (layers - 1), n_classes]
        linear = [nn.Linear(sizes[m], sizes[m + 1], bias=bias and m == layers - 1) for m in range(layers)]
        self.layers = nn.Sequential(*linear)

    @override
    def forward(self, features: Tensor) -> Tensor:
        return self.layers(features)

    def linear(self) -> Iterator[nn.Linear]:
        """The layers."""
        return (layer for layer in self.layers if isinstance(layer, nn.Linear))

    @property
    def matrices(self) -> list[Tensor]:
        """W_1, ..., W_M, each ``[out, in]``."""
        return [layer.weight for layer in self.linear()]

    def product(self, cut: int = 1) -> Tensor:
        """W_M ... W_cut, ``[K, width]``."""
        product, *rest = self.matrices[_cut(cut, len(self.matrices)) - 1 :]
        for matrix in rest:
            product = matrix @ product
        return product

    def entering(self, features: Tensor, cut: int = 1) -> Tensor:
        """Features as they enter layer `cut`, W_(cut-1) ... W_1 h."""
        for layer in list(self.linear())[: _cut(cut, len(self.matrices)) - 1]:
            features = layer(features)
        return features


def collapse_objective(
    head: DeepLinearHead,
    features: Tensor,
    labels: Tensor,
    *,
    decay: Decay,
    feature_decay: float,
    loss: Literal["mse", "cross-entropy"] = "mse",
    samples: int | None = None,
    weights: Tensor | None = None,
) -> Tensor:
    """The decayed objective of features ``[B, dim]`` with classes ``[B]``; that of a batch estimates the whole without bias.

    Args:
        head: the linear layers.
        features: free variables, or what a network makes.
        labels: their classes.
        decay, feature_decay: at least zero; none at all is the network without decay.
        loss: half the squared error summed over the classes, or the cross-entropy; the mean over samples.
        samples: N, of which the batch is a part; the norm of the features is summed over all N. By default the batch.
        weights: ``[B]``, how many samples each row stands for: one row per class is the same problem, once features of a class
            have become one (they have at every optimum).

    Raises:
        ErlangenError: a decay that is negative or not finite, or as many decays as there are no layers; fewer samples than rows.
        ShapeError: features, labels or weights of another form, or no row.
        DataError: a label that is no class.
        UnknownNameError: no such loss.
    """
    decays = _decays(decay, len(head.matrices), least=0.0)
    if not 0 <= feature_decay < math.inf:
        raise ErlangenError(f"feature_decay = {feature_decay}; give a number that is not negative")
    _check_rows(features, labels, weights, len(head.matrices[-1]))
    weights = features.new_ones(len(features)) if weights is None else weights
    total, logits = weights.sum(), head(features)
    if samples is not None and samples < len(features):
        raise ErlangenError(
            f"samples = {samples}: the batch alone has {len(features)} rows; give how many there are in all"
        )
    if loss == "mse":
        each = (logits - nn.functional.one_hot(labels, logits.shape[-1])).square().sum(-1) / 2
    elif loss == "cross-entropy":
        each = nn.functional.cross_entropy(logits, labels, reduction="none")
    else:
        raise UnknownNameError(f"loss = {loss!r}: choose 'mse' or 'cross-entropy'")
    value = (weights * each).sum() / total
    for rate, matrix in zip(decays, head.matrices, strict=True):
        value = value + rate / 2 * matrix.square().sum()
    enlarged = 1.0 if samples is None else samples / total
    return value + feature_decay / 2 * enlarged * (weights * features.square().sum(-1)).sum()


# --- what the optimum looks like -------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Geometry:
    """A global optimum for the squared error, up to the O(width) that acts between any two layers; float64.

    >>> frame = general_orthogonal_frame([200, 100, 50, 50], layers=2)
    >>> frame.weights().diagonal().tolist() == (frame.layers[0] * frame.layers[1]).tolist()  # one axis for each class
    True

    Attributes:
        counts: samples of each class ``[K]``.
        basis: ``[K, K]``, orthonormal columns: left singular vectors of the product of the layers.
        targets: singular values of the targets ``[K]`` (centred over the samples, where there is a bias).
        features: singular values of the features of all samples ``[K]``.
        layers: singular values of the layers ``[M, K]``.
        loss: value of the objective.
    """

    counts: Tensor
    basis: Tensor
    targets: Tensor
    features: Tensor
    layers: Tensor
    loss: float

    def weights(self, cut: int = 1) -> Tensor:
        """Rows ``[K, K]`` of W_M ... W_cut."""
        return self.basis * self.layers[_cut(cut, len(self.layers)) - 1 :].prod(0)

    def means(self, cut: int = 1) -> Tensor:
        """Class means ``[K, K]`` of the features that enter layer `cut`, one in each row."""
        below = self.layers[: _cut(cut, len(self.layers)) - 1].prod(0)
        return self.basis * (self.targets * self.features * below) / self.counts[:, None]

    def outputs(self) -> Tensor:
        """What each class is answered ``[K, K]``, in columns, without the bias: W_M ... W_1 times the class means."""
        return self.weights() @ self.means().mT

    @property
    def collapsed(self) -> Tensor:
        """Singular directions ``[K]`` that the optimum leaves out; without a bias these are the classes that vanish."""
        return self.features == 0


def general_orthogonal_frame(
    counts: Tensor | Sequence[int],
    layers: int = 1,
    *,
    decay: Decay = 5e-4,
    feature_decay: float = 5e-4,
    bias: bool = False,
) -> Geometry:
    """The closed form for imbalanced classes without a bias: class means are orthogonal, with lengths that depend on the counts.

    >>> general_orthogonal_frame([400, 100, 20, 8]).collapsed.tolist()  # small classes vanish
    [False, False, False, False]
    >>> general_orthogonal_frame([400, 100, 20, 8], decay=6e-3, feature_decay=6e-3).collapsed.tolist()
    [False, False, False, True]

    With b = M N (N decay^M feature_decay)^(1/M) a class vanishes where b / n_k >= (M - 1)^((M - 1) / M) / M. Else x_k is the
    largest root of M x^(M - 1) / (x^M + 1)^2 = b / n_k, and the product of the layers has the singular value
    sqrt(N feature_decay x_k^M).

    Args:
        counts: samples of each class, at least one.
        layers: M.
        decay, feature_decay: above zero.
        bias: False; the paper has no closed form with a bias.

    Raises:
        ErlangenError: an empty class; a decay that is not positive (then there is no minimiser); a bias.
    """
    if bias:
        raise ErlangenError("bias = True: the closed form is that without a bias; use optimal_geometry(..., bias=True)")
    n, decays = _counts(counts), _decays(decay, layers)
    _check_decay("feature_decay", feature_decay)
    M, N = layers, float(n.sum())
    each = math.prod(decays) ** (1 / M)
    b = M * N * (N * each**M * feature_decay) ** (1 / M)
    x = torch.tensor([_largest_root(b / float(count), M) for count in n], dtype=torch.float64)
    product = (N * feature_decay * x**M).sqrt()
    lengths = product / (product.square() + N * feature_decay)
    # Layers are balanced: decay_m s_m^2 is the same for all m.
    shares = torch.tensor([(each / rate) ** 0.5 for rate in decays], dtype=torch.float64)
    loss = n / (2 * N) * (1 / (1 + x**M) + b / n * x)
    return Geometry(
        n,
        torch.eye(len(n), dtype=torch.float64),
        n.sqrt(),
        lengths * n.sqrt(),
        shares[:, None] * product.pow(1 / M),
        float(loss.sum()),
    )


def optimal_geometry(
    counts: Tensor | Sequence[int],
    layers: int = 1,
    *,
    decay: Decay = 5e-4,
    feature_decay: float = 5e-4,
    bias: bool = False,
    rank: int | None = None,
) -> Geometry:
    """The same optimum by another road, which needs no theory of collapse: one scalar problem for each singular value.

    >>> a, b = (f([200, 100, 50, 50], layers=3) for f in (optimal_geometry, general_orthogonal_frame))
    >>> abs(a.loss - b.loss) < 1e-12
    True

    Over all factors of a product Z = W_M ... W_1 H of M + 1 decayed matrices, the decay is at least (M + 1) / 2 times the
    geometric mean of the decays times the sum of the powers 2 / (M + 1) of the singular values of Z. A bias that is not decayed
    centres the targets over the samples; this covers imbalanced classes with a bias, which the paper leaves out.

    Args:
        counts: samples of each class, at least one.
        layers: M.
        decay, feature_decay: above zero.
        bias: whether the last layer has one.
        rank: smallest width of features and layers, where it is below K.

    Raises:
        ErlangenError: an empty class, or a decay that is not positive.
    """
    n, decays = _counts(counts), [*_decays(decay, layers), _check_decay("feature_decay", feature_decay)]
    N, factors = float(n.sum()), layers + 1
    targets = n.diag() - torch.outer(n, n) / N if bias else n.diag()
    basis = torch.eye(len(n), dtype=torch.float64)
    squares = n
    if bias:
        squares, basis = (part.flip(-1) for part in torch.linalg.eigh(targets))
        squares = torch.cat([squares[:-1], squares.new_zeros(1)])  # the ones vector is sent to zero
    y = squares.clamp(min=0).sqrt()
    pressure = factors / 2 * math.prod(decays) ** (1 / factors)
    z = power_prox(y, N * pressure, 2 / factors)
    if rank is not None and rank < len(n):
        check_integer("rank", rank, 1)
        z = torch.where(torch.arange(len(n)) < rank, z[y.argsort(descending=True)], 0.0)[
            y.argsort(descending=True).argsort()
        ]
    loss = float((z - y).square().sum() / (2 * N) + pressure * z.pow(2 / factors).sum())
    share = z.pow(2 / factors) * math.prod(decays) ** (
        1 / factors
    )  # decay times squared singular value, alike for all factors
    *sizes, features = ((share / rate).sqrt() for rate in decays)
    return Geometry(n, basis, y, features, torch.stack(sizes), loss)


def code_value(
    code: Tensor, per_class: int, layers: int = 1, *, decay: Decay = 5e-4, feature_decay: float = 5e-4
) -> tuple[float, float]:
    """Cross-entropy and least decay of even classes whose logits are a multiple of a code ``[K, K]``: best value and multiple.

    >>> value, scale = code_value(torch.eye(4, dtype=torch.float64) - 0.25, per_class=100)
    >>> round(value, 7)
    0.0943617

    Column k of the code is what class k is answered. For I - 11^T / K, the simplex, this is what the paper calls the optimum.

    Raises:
        ShapeError: a code that is not square, or of fewer than two classes.
        NotFiniteError, ErlangenError: NaN or Inf in the code; a code of zeros; a decay that is not positive.
    """
    decays = [*_decays(decay, layers), _check_decay("feature_decay", feature_decay)]
    check_sizes(per_class=per_class)
    if code.ndim != 2 or code.shape[0] != code.shape[1] or len(code) < 2:
        raise ShapeError(f"code has shape {tuple(code.shape)}; give the logits [K, K] of each class in a column")
    check_finite(code, "code")
    factors, code = layers + 1, code.double()
    sizes = torch.linalg.svdvals(code)
    if not bool(sizes[0] > 0):
        raise ErlangenError("code is zero everywhere; it tells no class from another")
    sizes = torch.where(sizes > 1e-12 * sizes[0], sizes, 0.0)  # a root makes much of what is zero up to rounding
    powers = (math.sqrt(per_class) * sizes).pow(2 / factors).sum()
    pressure = factors / 2 * math.prod(decays) ** (1 / factors) * float(powers)
    classes = torch.arange(len(code))

    def value(log_scale: float) -> float:
        scale = math.exp(log_scale)
        return float(nn.functional.cross_entropy(scale * code.mT, classes)) + pressure * scale ** (2 / factors)

    # Logits matter, not the unit that the code is written in: the same multiples of its largest singular value are tried.
    grid = (torch.linspace(-6, 6, 241, dtype=torch.float64) - sizes[0].log()).tolist()
    best = min(grid, key=value)
    found = minimize_scalar(value, bounds=(best - 0.05, best + 0.05), method="bounded", options={"xatol": 1e-12})
    return min((float(found.fun), math.exp(found.x)), (math.log(len(code)), 0.0))


# --- how far a network has come --------------------------------------------------------------------------------------
def within_variability(features: Tensor, labels: Tensor, n_classes: int) -> float:
    """NC1, the spread within classes against that between them: tr(S_W pinv(S_B)) / K; zero once classes have become points.

    Warns with `CollapseWarning` where every class has one sample, so that nothing could spread, and where class means coincide
    or span fewer dimensions than they could, so that the number says nothing: it is then NaN.
    """
    stats = ClassStatistics.of(features.detach(), labels, n_classes, pooled=True, dtype=torch.float64)
    _check_filled(stats.counts)
    if int(stats.counts.max()) == 1:
        warnings.warn(
            "every class has one sample, whose spread is zero whatever the features are", CollapseWarning, stacklevel=2
        )
    # The between-class covariance is C^T C / K for the centred means C [K, d], whose inverse a small decomposition gives.
    centred = stats.means - stats.mean
    _, values, right = torch.linalg.svd(centred, full_matrices=False)
    there = values.square() > values[0].square() * 1e-12 * n_classes
    if int(there.sum()) < min(n_classes - 1, stats.dim) or not bool(values[0] > 0):
        warnings.warn(
            f"class means coincide or depend on one another (they differ along {int(there.sum())} directions); the spread "
            "between classes has no inverse, and NC1 is NaN",
            CollapseWarning,
            stacklevel=2,
        )
        return math.nan
    inverse = right[there].mT / values[there]
    return float((inverse * (stats.within @ inverse)).sum())


def collapse_metrics(
    features: Tensor, labels: Tensor, weight: Tensor, predicted: Geometry, cut: int = 1, bias: Tensor | None = None
) -> dict[str, float]:
    """NC1, NC2 and NC3 of features ``[N, d]`` that enter layer `cut` and the product ``[K, d]`` of the layers from there on.

    Distances of normalised matrices, between 0 and 2, to three frames: the predicted one, the simplex (for which class means
    are taken about the mean of all samples) and the orthonormal one. They do not change under O(d).

    Returns:
        ``"NC1"``; ``"W to F"``, ``"H to F"`` and ``"WH to F"`` (NC2 of weights and means, NC3) for every frame F of "predicted",
        "simplex" and "orthogonal"; ``"nearest mean"``, the share of samples whose largest logit is the class of the nearest mean.

    Raises:
        ErlangenError: a class without samples, a cut that there is not, or features or weights that are zero, which have no
            shape.
        ShapeError: a weight that does not read these features, or that has other classes than the prediction.
    """
    if weight.ndim != 2 or weight.shape != (len(predicted.counts), features.shape[-1]):
        raise ShapeError(
            f"weight has shape {tuple(weight.shape)}; give [K, d] for K = {len(predicted.counts)} predicted classes and features "
            f"of width d = {features.shape[-1]}"
        )
    features, weight, n_classes = features.detach(), weight.detach(), len(weight)
    bias = None if bias is None else bias.detach()
    stats = ClassStatistics.of(features, labels, n_classes, pooled=True, dtype=torch.float64)
    _check_filled(stats.counts)
    W, means = weight.double(), stats.means
    centred = means - stats.mean
    row = {"NC1": within_variability(features, labels, n_classes)}
    simplex, eye = simplex_etf(n_classes).to(means), torch.eye(n_classes).to(means)
    frames = {
        "predicted": (predicted.weights(cut), predicted.means(cut), predicted.outputs(), means),
        "simplex": (simplex, simplex, eye - 1 / n_classes, centred),
        "orthogonal": (eye, eye, eye, means),
    }
    for name, (rows, columns, outputs, have) in frames.items():
        row[f"W to {name}"] = float(gram_distance(W, rows.to(means)))
        row[f"H to {name}"] = float(gram_distance(have, columns.to(means)))
        row[f"WH to {name}"] = _shape_distance(W @ have.mT, outputs.to(means))
    logits = features.double() @ W.mT + (0.0 if bias is None else bias.double())
    nearest = torch.cdist(features.double(), means).argmin(-1)
    return row | {"nearest mean": float((logits.argmax(-1) == nearest).double().mean())}


# --- inside ----------------------------------------------------------------------------------------------------------
def _largest_root(ratio: float, M: int) -> float:
    """x of a class with b / n_k = ratio; zero beyond the threshold, where zero is lower than the stationary point."""
    return 0.0 if ratio >= threshold(M) else stationary_root(ratio, M)


def threshold(layers: int) -> float:
    """The b / n_k at which a class vanishes."""
    return (layers - 1) ** ((layers - 1) / layers) / layers


def stationary_root(ratio: float, layers: int) -> float:
    """The largest root of M x^(M - 1) / (x^M + 1)^2 = ratio, 0 where there is none; it is not compared with zero."""
    M = layers
    if M == 1:
        return max(ratio**-0.5 - 1, 0.0)
    peak = ((M - 1) / (M + 1)) ** (1 / M)  # left of it the function rises
    high = (M / ratio) ** (1 / (M + 1))  # the function is below M x^(-M-1)

    def excess(x: float) -> float:
        return M * x ** (M - 1) / (x**M + 1) ** 2 - ratio

    if excess(peak) <= 0:
        return 0.0
    root: Any = brentq(excess, peak, high, xtol=1e-15)
    return float(root)


def _shape_distance(A: Tensor, B: Tensor) -> float:
    """Frobenius distance of two matrices that are each divided by their norm."""
    if float(A.norm()) == 0:
        raise ErlangenError("weights times class means are zero and have no shape; the network answers nothing")
    return float((A / A.norm() - B / B.norm()).norm())


def _cut(cut: int, layers: int) -> int:
    """The number of a layer, from 1."""
    if check_integer("cut", cut, 1) > layers:
        raise ErlangenError(f"cut = {cut}: there are {layers} layers; choose one of 1 to {layers}")
    return cut


def _check_rows(features: Tensor, labels: Tensor, weights: Tensor | None, n_classes: int) -> None:
    if features.ndim != 2 or not len(features) or labels.shape != features.shape[:1]:
        raise ShapeError(
            f"features has shape {tuple(features.shape)} and labels {tuple(labels.shape)}; give [B, dim] and [B], B >= 1"
        )
    if weights is not None and weights.shape != labels.shape:
        raise ShapeError(f"weights has shape {tuple(weights.shape)}; give one number for each of {len(labels)} rows")
    if is_traced():
        return
    outside = (labels < 0) | (labels >= n_classes)
    if bool(outside.any()):
        index = first_index(outside)[0]
        raise DataError(f"labels[{index}] = {int(labels[index])}, but classes are 0 to {n_classes - 1}")


def _check_filled(counts: Tensor) -> None:
    if bool((counts == 0).any()):
        raise ErlangenError(f"class {first_index(counts == 0)[0]} has no sample; leave it out, or give some")


def _counts(counts: Tensor | Sequence[int]) -> Tensor:
    n = torch.as_tensor(counts, dtype=torch.float64)
    if n.ndim != 1 or len(n) < 2:
        raise ShapeError(f"counts has shape {tuple(n.shape)}; give the numbers of samples [K] of two classes or more")
    check_finite(n, "counts")
    if bool((n <= 0).any()):
        index = first_index(n <= 0)[0]
        raise ErlangenError(f"counts[{index}] = {float(n[index]):g}: a class without samples has no mean; leave it out")
    return n


def _decays(decay: Decay, layers: int, least: float | None = None) -> list[float]:
    check_integer("layers", layers, 1)
    decays = [float(decay)] * layers if isinstance(decay, int | float) else [float(rate) for rate in decay]
    if len(decays) != layers:
        raise ErlangenError(f"decay has {len(decays)} numbers for {layers} layers; give one, or one for each layer")
    for index, rate in enumerate(decays):
        if least is None:
            _check_decay(f"decay[{index}]", rate)
        elif not least <= rate < math.inf:
            raise ErlangenError(f"decay[{index}] = {rate}; give a number that is not negative")
    return decays


def _check_decay(name: str, rate: float) -> float:
    if not (math.isfinite(rate) and rate > 0):
        raise ErlangenError(f"{name} = {rate}; without decay there is no finite minimiser, give a positive number")
    return rate
