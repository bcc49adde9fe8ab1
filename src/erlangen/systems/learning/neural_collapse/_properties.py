"""What holds exactly of global optima with free features, of measures of collapse, and where small classes vanish."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Generator, Tensor

from erlangen.geometry import orthogonal_frame
from erlangen.survey import Part, Run, exact, largest, sweep
from erlangen.survey.tables import Values
from erlangen.systems.learning.neural_collapse._free import Solution, solve
from erlangen.systems.learning.neural_collapse.method import (
    Geometry,
    code_value,
    collapse_metrics,
    general_orthogonal_frame,
    optimal_geometry,
    stationary_root,
    threshold,
    within_variability,
)

COUNTS = ((100, 100, 100, 100), (200, 100, 50, 50), (400, 100, 20, 8))
DEPTHS = (1, 2, 3)
DECAY = 5e-4


class Solved(NamedTuple):
    """A problem with free features: what L-BFGS found, and what was predicted."""

    found: Solution
    predicted: Geometry


@functools.lru_cache(maxsize=8)
def _solved(seed: int, dims: tuple[int, ...], starts: int, bias: bool) -> list[Solved]:
    generator = Generator().manual_seed(seed)
    done: list[Solved] = []
    for dim, counts, layers in itertools.product(dims, COUNTS, DEPTHS):
        if bias and counts == COUNTS[2] and layers > 1:
            continue  # two of its four classes hardly count, and L-BFGS is slow
        rates: dict[str, Any] = {"decay": DECAY, "feature_decay": DECAY}
        found = solve(counts, layers, dim=dim, generator=generator, starts=starts, bias=bias, **rates)
        predict = functools.partial(optimal_geometry, bias=True) if bias else general_orthogonal_frame
        done.append(Solved(found, predict(counts, layers, **rates)))
    return done


def solved(run: Run[Any], *, bias: bool = False) -> list[Solved]:
    """Problems of four classes with one, two and three layers, even and uneven."""
    return _solved(run.seed, run.budget.dims, run.budget.starts, bias)


def distance(A: Tensor, B: Tensor) -> float:
    """Relative Frobenius distance."""
    return float((A - B).norm() / B.norm())


@exact(tol=1e-6)
def optimum_value(run: Run[Any]) -> float:
    """Largest relative difference of the lowest value by L-BFGS and the closed form, squared error without bias, M = 1, 2, 3."""
    return largest(abs(one.found.value / one.predicted.loss - 1) for one in solved(run))


@exact(tol=1e-6)
def optimum_value_with_bias(run: Run[Any]) -> float:
    """Largest relative difference of the lowest value by L-BFGS and the singular values' problem, squared error with bias."""
    return largest(abs(one.found.value / one.predicted.loss - 1) for one in solved(run, bias=True))


@exact(tol=1e-5)
def optimum_weights(run: Run[Any]) -> float:
    """Largest relative difference of W W^T at the optimum and the prediction, with and without bias."""
    worst = 0.0
    for found, predicted in solved(run) + solved(run, bias=True):
        W, rows = found.head.product(), predicted.weights()
        worst = largest(worst, distance(W @ W.mT, rows @ rows.mT))
    return worst


@exact(tol=1e-5)
def optimum_means(run: Run[Any]) -> float:
    """Largest relative difference of the Gram matrix of class means at the optimum and the prediction, with and without bias."""
    worst = 0.0
    for found, predicted in solved(run) + solved(run, bias=True):
        H, rows = found.features, predicted.means()
        worst = largest(worst, distance(H @ H.mT, rows @ rows.mT))
    return worst


@exact(tol=1e-5)
def optimum_alignment(run: Run[Any]) -> float:
    """Largest relative difference of W_M ... W_1 and diag(s_k^2 + N feature decay) times the class means, without bias."""
    worst = 0.0
    for found, predicted in solved(run):
        lengths = predicted.layers.prod(0).square() + predicted.counts.sum() * DECAY
        worst = largest(worst, distance(lengths[:, None] * found.features, found.head.product()))
    return worst


@exact(tol=1e-6)
def layers_balanced(run: Run[Any]) -> float:
    """Largest relative difference of decayed W_(m+1)^T W_(m+1) and W_m W_m^T, features included, at every optimum."""
    worst = 0.0
    for found, _ in solved(run) + solved(run, bias=True):
        scaled = found.features * found.weights.sqrt()[:, None]
        below = [scaled.mT @ scaled, *(W @ W.mT for W in found.head.matrices[:-1])]
        above = [W.mT @ W for W in found.head.matrices]
        worst = largest(worst, *(distance(A, B) for A, B in zip(above, below, strict=True)))
    return worst


@exact(tol=1e-8)
def samples_become_points(run: Run[Any]) -> float:
    """NC1 at the optimum when every sample has its own feature, M = 1, 2, 3."""
    generator = run.generator()
    rates: dict[str, Any] = {"decay": DECAY, "feature_decay": DECAY}
    found = [solve((20, 10, 5, 5), M, dim=8, generator=generator, starts=1, samples=True, **rates) for M in DEPTHS]
    return largest(within_variability(one.features, one.labels, 4) for one in found)


@exact(tol=1e-10)
def closed_form_is_singular_values(run: Run[Any]) -> float:
    """Largest relative difference of the closed form and the singular values' problem around the threshold, M = 1 to 6."""
    worst = 0.0
    for layers, share, spread in itertools.product(range(1, 7), (0.2, 0.9, 0.99, 1.01, 1.1, 2.0), (1.0, 3.0)):
        decays = [decay_at(share, layers) * spread**power for power in torch.linspace(-1, 1, layers).tolist()]
        if layers == 1:
            decays = [decay_at(share, 1)]
        rates: dict[str, Any] = {"decay": decays, "feature_decay": decay_at(share, layers)}
        a, b = (f(COUNTS[2], layers, **rates) for f in (general_orthogonal_frame, optimal_geometry))
        worst = largest(worst, abs(a.loss / b.loss - 1), distance(a.layers, b.layers), distance(a.features, b.features))
        if bool((a.collapsed != b.collapsed).any()):
            return torch.inf
    return worst


@exact(tol=1e-10)
def one_layer_is_soft_threshold(run: Run[Any]) -> float:
    """Largest difference of the singular values of W H and max(0, sqrt(n_k) - N sqrt(decay feature decay)), M = 1."""
    worst = 0.0
    for counts, decay in itertools.product(COUNTS, (5e-4, 5e-3, 2e-2)):
        frame = general_orthogonal_frame(counts, decay=decay, feature_decay=2 * decay)
        n = frame.counts
        z = (n.sqrt() - n.sum() * decay * 2**0.5).clamp(min=0)
        worst = largest(worst, float((frame.layers[0] * frame.features - z).abs().max()))
    return worst


def random_state(run: Run[Any]) -> tuple[Tensor, Tensor, list[Tensor], Geometry]:
    """Features, labels, three layers, and what is predicted of such counts."""
    generator = run.generator()
    labels = torch.arange(4).repeat_interleave(torch.tensor([12, 6, 3, 3]))
    sizes = ((24, 8), (8, 8), (8, 8), (4, 8))
    H, *layers = (torch.randn(size, generator=generator, dtype=torch.float64) for size in sizes)
    return H, labels, layers, general_orthogonal_frame([12, 6, 3, 3], 3)


def all_metrics(H: Tensor, labels: Tensor, layers: list[Tensor], predicted: Geometry) -> Iterator[dict[str, float]]:
    """Metrics at every cut."""
    features = H
    for cut in range(1, len(layers) + 1):
        product = functools.reduce(lambda below, W: W @ below, layers[cut - 1 :])
        yield collapse_metrics(features, labels, product, predicted, cut)
        features = features @ layers[cut - 1].mT


@exact(tol=1e-10)
def metrics_invariant(run: Run[Any]) -> float:
    """Largest change of a metric at any cut when O(8) acts between layers and classes are renamed, 20 times."""
    H, labels, layers, predicted = random_state(run)
    generator, before = run.generator(1), list(all_metrics(H, labels, layers, predicted))
    worst = 0.0
    for _ in range(20):
        turns = [orthogonal_frame(8, generator=generator) for _ in range(3)]
        ends = [*turns[1:], torch.eye(4, dtype=torch.float64)]
        moved = [end @ W @ turn.mT for end, W, turn in zip(ends, layers, turns, strict=True)]
        order = torch.randperm(4, generator=generator)
        moved[-1] = moved[-1][order]
        renamed = general_orthogonal_frame(predicted.counts[order], 3)
        after = all_metrics(H @ turns[0].mT, order.argsort()[labels], moved, renamed)
        for a, b in zip(before, after, strict=True):
            worst = largest(worst, *(abs(a[key] - b[key]) for key in a))
    return worst


@exact(tol=1e-12)
def classes_permute(run: Run[Any]) -> float:
    """Largest relative difference of the geometry of permuted classes and the permuted geometry, 24 permutations."""
    worst = 0.0
    for bias, order in itertools.product((False, True), itertools.permutations(range(4))):
        index = list(order)
        counts = torch.tensor(COUNTS[2])
        a, b = (optimal_geometry(n, 2, bias=bias) for n in (counts, counts[index]))
        for x, y in ((a.weights(), b.weights()), (a.means(), b.means())):
            worst = largest(worst, distance(y @ y.mT, (x @ x.mT)[index][:, index]))
    return worst


def simplex(classes: int) -> Tensor:
    """The logits of the simplex, I - 11^T / K."""
    return torch.eye(classes, dtype=torch.float64) - 1 / classes


def lowest(run: Run[Any], classes: int, layers: int, *, bias: bool = False, starts: int = 1) -> Solution:
    """The lowest value of the cross-entropy that L-BFGS finds, 100 samples per class."""
    how: dict[str, Any] = {
        "decay": DECAY,
        "feature_decay": DECAY,
        "generator": run.generator(),
        "starts": starts,
        "bias": bias,
    }
    return solve((100,) * classes, layers, dim=classes + 4, loss="cross-entropy", **how)


@exact(tol=1e-6)
def cross_entropy_one_layer(run: Run[Any]) -> float:
    """Largest relative difference of the lowest cross-entropy by L-BFGS and the simplex, M = 1, with and without bias."""
    cases = itertools.product((4, 10), (False, True))
    return largest(abs(lowest(run, K, 1, bias=bias).value / code_value(simplex(K), 100)[0] - 1) for K, bias in cases)


@exact(tol=1e-6)
def cross_entropy_two_layers(run: Run[Any]) -> float:
    """Relative difference of the lowest cross-entropy that L-BFGS finds from six starts and the simplex, M = 2, four classes."""
    return abs(lowest(run, 4, 2, starts=6).value / code_value(simplex(4), 100, 2)[0] - 1)


PROPERTIES = (
    optimum_value,
    optimum_value_with_bias,
    optimum_weights,
    optimum_means,
    optimum_alignment,
    layers_balanced,
    samples_become_points,
    closed_form_is_singular_values,
    one_layer_is_soft_threshold,
    metrics_invariant,
    classes_permute,
    cross_entropy_one_layer,
    cross_entropy_two_layers,
)


# --- cross-entropy with more than one layer --------------------------------------------------------------------------
def cross_entropy_part(run: Run[Any]) -> Part:
    """Whether the simplex is the lowest for the cross-entropy, as the paper says for every number of layers."""

    def lowest_of(classes: int, layers: int, seed: int) -> Mapping[str, Any]:
        value, _ = code_value(simplex(classes), 100, layers)
        found = lowest(Run(seed=seed), classes, layers, starts=run.budget.code_starts)
        logits = found.head(found.features)
        rank = int((torch.linalg.svdvals(logits - logits.mean(1, keepdim=True)) > 1e-3).sum())
        row = {"simplex": value, "lowest found": found.value, "simplex over lowest": value / found.value}
        return row | {"rank found": rank, "accuracy": 100 * float((logits.argmax(1) == found.labels).double().mean())}

    cases = {f"K = {K}, M = {M}": functools.partial(lowest_of, K, M) for K in (4, 10) for M in DEPTHS}
    table = sweep("cross-entropy", cases, run=run, once=True)
    deep = [table[f"K = {K}, M = {M}", "simplex over lowest"] for K in (4, 10) for M in (2, 3)]
    return table.part(
        table.same(
            "cross-entropy-deep-simplex",
            "Largest relative excess of the cross-entropy of the simplex over the lowest value found, M = 2 and 3.",
            np.max(deep, axis=0) - 1,
            0.0,
            tol=1e-6,
            published="the simplex is a global optimum for every number of layers",
        )
    )


# --- small classes that vanish ---------------------------------------------------------------------------------------
def decay_at(share: float, layers: int) -> float:
    """The decay, of layers and features alike, at which the smallest class has b / n_k of this share of the threshold."""
    N, least = sum(COUNTS[2]), COUNTS[2][-1]
    b = share * threshold(layers) * least
    return ((b / (layers * N)) ** layers / N) ** (1 / (layers + 1))


def minority_part(run: Run[Any]) -> Part:
    """The length of the smallest class on both sides of the predicted threshold."""

    def length_of(layers: int, share: float, seed: int) -> Mapping[str, Any]:
        decay = decay_at(share, layers)
        rates: dict[str, Any] = {"decay": decay, "feature_decay": decay}
        frame = general_orthogonal_frame(COUNTS[2], layers, **rates)
        generator = Generator().manual_seed(seed)
        sizes = {"starts": 3, "scales": (0.6, 1.5, 3.0), "small": (3,)}
        found = solve(COUNTS[2], layers, dim=8, generator=generator, **sizes, **rates)
        size = float(found.head.product()[3].norm())
        ratio = share * threshold(layers)
        return {
            "decay": decay,
            "length found": size,
            "length predicted": float(frame.weights()[3, 3]),
            "length, stationary root": (sum(COUNTS[2]) * decay * stationary_root(ratio, layers) ** layers) ** 0.5,
            "vanished": float(size < 1e-3 * float(found.head.product().norm())),
            "predicted to vanish": float(frame.collapsed[3]),
            "value over prediction": found.value / frame.loss,
        }

    cases = itertools.product(DEPTHS[:1] if run.dry else DEPTHS, run.budget.shares)
    methods = {f"M = {M}, {share:g} of the threshold": functools.partial(length_of, M, share) for M, share in cases}
    table = sweep("minority", methods, run=run)

    def worst(a: str, b: str | float) -> Values:
        return np.max([abs(table[m, a] - (table[m, b] if isinstance(b, str) else b)) for m in table.models], axis=0)

    return table.part(
        table.same(
            "minority-vanishes-at-threshold",
            "Share of problems around the threshold in which the smallest class vanishes against the prediction, or does not.",
            worst("vanished", "predicted to vanish"),
            0.0,
            tol=0,
        ),
        table.same(
            "minority-value",
            "Largest relative difference of the lowest value by L-BFGS and the closed form around the threshold.",
            worst("value over prediction", 1.0),
            0.0,
            tol=1e-6,
        ),
    )
