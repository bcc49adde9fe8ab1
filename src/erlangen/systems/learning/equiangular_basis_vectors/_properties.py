"""What holds exactly of bases, of the generation of the paper, and of the head."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from erlangen.geometry import (
    coherence,
    frame_potential,
    orthogonal_frame,
    paley_etf,
    simplex_etf,
    spread_vectors,
    welch_bound,
)
from erlangen.survey import Run, bound, exact, largest
from erlangen.systems.learning.equiangular_basis_vectors.method import (
    EquiangularHead,
    coherence_loss,
    equiangular_basis,
    extend_basis,
    generate_basis,
)

SIZES = ((7, 10), (10, 10), (11, 10), (10, 5), (14, 7), (24, 9), (40, 12))
"""Classes and width: orthonormal, the simplex, Paley's frames, and what is found by descent."""


def bases(run: Run[Any], dtype: torch.dtype = torch.float64) -> Iterator[Tensor]:
    """One basis of every kind."""
    for n, dim in SIZES:
        yield equiangular_basis(n, dim, steps=100, generator=run.generator(), dtype=dtype)


@exact(tol=1e-12, float32=1e-6)
def unit_rows(run: Run[Any], dtype: torch.dtype) -> float:
    """Largest difference of the length of a basis vector from one, every kind of basis."""
    return largest(float((W.norm(dim=-1) - 1).abs().max()) for W in bases(run, dtype))


@exact(tol=1e-12)
def orthonormal_up_to_the_width(run: Run[Any]) -> float:
    """Coherence of a basis with no more classes than dimensions."""
    return largest(float(coherence(equiangular_basis(n, 12, dtype=torch.float64))) for n in range(2, 13))


@exact(tol=1e-10)
def simplex_and_paley_reach_welch(run: Run[Any]) -> float:
    """Largest difference of an absolute cosine from the Welch bound: K = d + 1, and K = 2d for d = 3, 5, 7, 9."""
    worst = 0.0
    for n, dim in [(d + 1, d) for d in range(2, 12)] + [(2 * d, d) for d in (3, 5, 7, 9)]:
        W = equiangular_basis(n, dim, dtype=torch.float64)
        cosines = (W @ W.mT).abs()[~torch.eye(n, dtype=torch.bool)]
        worst = largest(worst, float((cosines - welch_bound(n, dim)).abs().max()))
    return worst


@exact(tol=1e-12)
def never_below_welch(run: Run[Any]) -> float:
    """Most by which the coherence of a basis is below the Welch bound, or its frame potential below K^2 / d."""
    worst = 0.0
    for W in bases(run):
        n, dim = W.shape
        worst = largest(worst, welch_bound(n, dim) - float(coherence(W)), n * n / dim - float(frame_potential(W)))
    return worst


@exact(tol=1e-10)
def tight_frames_have_least_potential(run: Run[Any]) -> float:
    """Difference of the frame potential of the simplex and of Paley's frames from K^2 / d."""
    frames = [simplex_etf(n) for n in range(3, 12)] + [paley_etf(d) for d in (3, 5, 7, 9)]
    return largest(abs(float(frame_potential(W)) - len(W) ** 2 / W.shape[1]) for W in frames)


@exact(tol=1e-12)
def coherence_invariant(run: Run[Any]) -> float:
    """Largest change of the coherence when O(d) turns a basis, rows are permuted, and signs are flipped."""
    generator, worst = run.generator(), 0.0
    for W in bases(run):
        n, dim = W.shape
        for _ in range(10):
            signs = 2.0 * torch.randint(2, (n, 1), generator=generator) - 1
            moved = (signs * W)[torch.randperm(n, generator=generator)] @ orthogonal_frame(dim, generator=generator)
            worst = largest(worst, abs(float(coherence(moved) - coherence(W))))
    return worst


@exact(tol=1e-4)
def generation_keeps_its_threshold(run: Run[Any]) -> float:
    """How far the coherence of 30 vectors in 16 dimensions is above 0.2 when the paper's generation stops."""
    W, steps = generate_basis(30, 16, 0.2, steps=5000, generator=run.generator(), dtype=torch.float64)
    return largest(0.0, float(coherence(W)) - 0.2) if steps < 5000 else torch.inf


@exact(tol=1e-12)
def slices_do_not_matter(run: Run[Any]) -> float:
    """Largest difference of the coherence loss's gradient in slices and at once, and the loss of feasible vectors."""
    W = torch.nn.functional.normalize(
        torch.randn(30, 8, generator=run.generator(), dtype=torch.float64), dim=-1
    ).requires_grad_()
    a, b = (torch.autograd.grad(coherence_loss(W, 0.3, slice_rows=rows), W)[0] for rows in (None, 7))
    return largest(float((a - b).abs().max()), float(coherence_loss(paley_etf(5), 1 / 3 + 1e-9)))


@exact(tol=1e-12, float32=1e-6)
def turned_together(run: Run[Any], dtype: torch.dtype) -> float:
    """Largest relative change of the logits when basis and features turn by the same element of O(16)."""
    generator = run.generator()
    W, x = (
        equiangular_basis(30, 16, steps=50, generator=generator, dtype=torch.float64),
        torch.randn(100, 16, generator=generator).double(),
    )
    Q = orthogonal_frame(16, generator=generator)
    a, b = EquiangularHead(W.to(dtype)), EquiangularHead((W @ Q).to(dtype), normalise=True)
    before, after = a(x.to(dtype)), b((x @ Q).to(dtype))
    return float((after - before).abs().max() / before.abs().max())


@exact(tol=1e-12)
def classes_permute(run: Run[Any]) -> float:
    """Largest relative difference of the logits of permuted classes and the permuted logits, 100 features and 30 classes."""
    generator = run.generator()
    W = equiangular_basis(30, 16, steps=50, generator=generator, dtype=torch.float64)
    x, order = torch.randn(100, 16, generator=generator, dtype=torch.float64), torch.randperm(30, generator=generator)
    before, after = EquiangularHead(W)(x)[:, order], EquiangularHead(W[order])(x)
    return float((after - before).abs().max() / before.abs().max())


@exact(tol=0)
def largest_cosine_is_smallest_angle(run: Run[Any]) -> float:
    """Features among 10,000 whose class by the largest cosine is not that by the smallest angle."""
    generator = run.generator()
    head = EquiangularHead(equiangular_basis(30, 16, steps=50, generator=generator, dtype=torch.float64))
    x = torch.randn(10_000, 16, generator=generator, dtype=torch.float64)
    # By the chord between points of the sphere, since the arccosine of the head's own cosines could not disagree.
    angles = 2 * (torch.cdist(x / x.norm(dim=-1, keepdim=True), head.basis) / 2).clamp(max=1).asin()
    return float((head.predict(x) != angles.argmin(-1)).sum())


@exact(tol=1e-7)
def orthogonal_feature_is_undecided(run: Run[Any]) -> float:
    """Largest difference of a probability from 1/K for a feature that is orthogonal to all basis vectors, K < d."""
    frame = orthogonal_frame(12, generator=run.generator())
    head = EquiangularHead(frame[:10])
    return float((head(3 * frame[11:]).softmax(-1) - 0.1).abs().max())


@exact(tol=1e-10)
def least_cross_entropy(run: Run[Any]) -> float:
    """Difference of the cross-entropy from log(1 + (K - 1) e^(-c/T)): c = 1 at w_k, sqrt(K/(K-1)) at the simplex."""
    worst = 0.0
    for K, T in ((10, 0.07), (10, 0.5), (50, 0.2)):
        head, y = EquiangularHead(torch.eye(K, dtype=torch.float64), T), torch.arange(K)
        at, centred = torch.eye(K, dtype=torch.float64), torch.eye(K, dtype=torch.float64) - 1 / K
        plain, best = (math.log1p((K - 1) * math.exp(-gap / T)) for gap in (1.0, math.sqrt(K / (K - 1))))
        worst = largest(worst, *(abs(float(cross_entropy(head(x), y)) - v) for x, v in ((at, plain), (centred, best))))
    return worst


@bound(at_least=0)
def nothing_below_least_cross_entropy(run: Run[Any]) -> float:
    """Smallest cross-entropy of 10,000 random unit features near their class vectors, minus its least value, K = 10, T = 0.5."""
    K, T, generator = 10, 0.5, run.generator()
    head, y = EquiangularHead(torch.eye(K, dtype=torch.float64), T), torch.arange(10_000) % K
    x = torch.eye(K, dtype=torch.float64)[y] + 0.3 * torch.randn(10_000, K, generator=generator, dtype=torch.float64)
    each = cross_entropy(head(x), y, reduction="none")
    return float(each.min()) - math.log1p((K - 1) * math.exp(-math.sqrt(K / (K - 1)) / T))


@exact(tol=0)
def old_classes_untouched(run: Run[Any]) -> float:
    """Numbers of 20 old basis vectors that differ in a bit after 10 classes were added."""
    W = equiangular_basis(20, 8, steps=50, generator=run.generator())
    return float((extend_basis(W, 10, steps=50, generator=run.generator())[:20] != W).sum())


@exact(tol=0)
def nothing_is_trained(run: Run[Any]) -> float:
    """Trainable numbers in the head, and numbers of its basis that a saved state does not restore bit for bit."""
    W = equiangular_basis(20, 8, steps=50, generator=run.generator())
    head, other = EquiangularHead(W), EquiangularHead(spread_vectors(20, 8, steps=0, dtype=torch.float32))
    other.load_state_dict(head.state_dict())
    return float(sum(p.numel() for p in head.parameters()) + int((other.basis != W).sum()))


PROPERTIES = (
    unit_rows,
    orthonormal_up_to_the_width,
    simplex_and_paley_reach_welch,
    never_below_welch,
    tight_frames_have_least_potential,
    coherence_invariant,
    generation_keeps_its_threshold,
    slices_do_not_matter,
    turned_together,
    classes_permute,
    largest_cosine_is_smallest_angle,
    orthogonal_feature_is_undecided,
    least_cross_entropy,
    nothing_below_least_cross_entropy,
    old_classes_untouched,
    nothing_is_trained,
)
