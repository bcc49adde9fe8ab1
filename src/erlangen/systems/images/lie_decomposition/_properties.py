"""Charts, Haar measure, kernels, special cases, and how errors fall with the number of samples."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import torch
from torch import Generator, Tensor

from erlangen.groups import SL, SO, Affine, GLPlus, GroupSamples, LinearGroup, PolarChart, PolarSampler, decompositions
from erlangen.groups.linear import TrivialGroup
from erlangen.groups.rotations import planar_rotation
from erlangen.measure import relative_change
from erlangen.nn import GroupKernel, LieConv, LieLift
from erlangen.numerics import sym_exp
from erlangen.survey import Part, Run, bound, exact, largest, number

NO_LOGARITHM = ((-1.0, 1.0), (0.0, -1.0))
"""An element of SL(2) that no real matrix exponential reaches."""

COUNT = 1000
"""Elements of the round trips."""

DRY = 100_000
"""Samples of an integral in a dry run, at most."""


def rng(seed: int) -> Generator:
    """A generator of the given seed."""
    return Generator().manual_seed(seed)


def matrices(group: LinearGroup, count: int, seed: int) -> Tensor:
    """Elements with condition numbers below 100, float64."""
    variance = 0.25
    drawn = PolarSampler(group, variance).draw(2 * count, generator=rng(seed)).g
    return drawn[torch.linalg.cond(drawn) < 100][:count]


# --- charts ----------------------------------------------------------------------------------------------------------
@exact(tol=1e-12, float32=1e-5)
def polar(run: Run[Any], dtype: torch.dtype) -> float:
    """Relative error of exp(log P) R, worst of 1000 elements of GL+(2)."""
    g = matrices(GLPlus(2), COUNT, run.seed).to(dtype)
    log_p, r = decompositions.polar(g)
    return relative_change(sym_exp(log_p) @ r, g)


@exact(tol=1e-12, float32=1e-5)
def chart(run: Run[Any], dtype: torch.dtype) -> float:
    """Relative error of the chart and back, worst of 1000 elements each of GL+(2), SL(2) and SL(3)."""
    worst = 0.0
    for group in (GLPlus(2), SL(2), SL(3)):
        g, coordinates = matrices(group, COUNT, run.seed).to(dtype), PolarChart(group)
        worst = largest(worst, relative_change(coordinates.element(coordinates.coordinates(g)), g))
    return worst


@exact(tol=1e-12)
def surjective(run: Run[Any]) -> float:
    """Relative error of the chart and back for [[-1, 1], [0, -1]], an element of SL(2) which has no real logarithm."""
    missed, coordinates = torch.tensor(NO_LOGARITHM, dtype=torch.float64), PolarChart(SL(2))
    return relative_change(coordinates.element(coordinates.coordinates(missed))[None], missed[None])


def without_logarithm(g: Tensor) -> float:
    """Share of elements of SL(2) that the exponential misses: trace at most -2, but not minus the identity."""
    minus = (g + torch.eye(2, dtype=g.dtype)).abs().amax((-2, -1)) < 1e-9
    return float(((g.diagonal(dim1=-2, dim2=-1).sum(-1) <= -2) & ~minus).double().mean())


def missed(angle: float, seed: int) -> float:
    """Share of the quotients ``h^-1 h'`` of samples that have no logarithm, so that the exponential chart misses them."""
    h, other = (PolarSampler(SL(2), 0.1, angle).draw(50_000, generator=rng(seed + k)) for k in range(2))
    return without_logarithm(h.inverse @ other.g)


# --- Haar measure ----------------------------------------------------------------------------------------------------
def bump(g: Tensor) -> Tensor:
    """A smooth function of compact support on GL+(2), not symmetric in anything."""
    centre = torch.tensor([[1.1, 0.3], [-0.2, 0.95]], dtype=g.dtype)
    volume = torch.linalg.det(g).clamp(min=1e-3).log()  # keeps away from singular matrices
    size = ((g - centre).square().sum((-2, -1)) / 1.5**2 + volume.square()).clamp(max=1)
    inside = size < 1 - 1e-9
    return torch.where(inside, torch.exp(-1 / (1 - torch.where(inside, size, 0.0))), 0.0)


def haar_scores(group: SL | GLPlus, count: int, moves: int, seed: int, *, root: bool = True) -> tuple[float, float]:
    """Largest difference of E[w F(g)] and E[w F(a g)], and of E[w F(g a)], in standard errors, over `moves` elements a.

    ``g = S^(1/2) R`` with the congruence-invariant measure of S and Haar measure of R as a product; ``S R`` without `root`,
    which elements a far from the identity show with fewer samples.
    """
    drawn = PolarSampler(group, 0.3).draw(count, generator=rng(seed))
    g, weight = drawn.g, drawn.log_weight.exp()
    if not root:
        log_p, r = decompositions.polar(g)
        g = sym_exp(2 * log_p) @ r
    a = PolarSampler(group, 0.08 if root else 0.4, angle=1.0).draw(moves, generator=rng(seed + 1)).g
    plain = bump(g)
    scores: list[list[float]] = [[], []]
    for move in a:
        for side, moved in enumerate((move @ g, g @ move)):
            difference = weight * (bump(moved) - plain)
            scores[side].append(float(difference.mean().abs() / (difference.std() / math.sqrt(count))))
    return largest(scores[0]), max(scores[1])


def modular_error(seed: int) -> float:
    """Modular function of the affine group against its closed form ``1 / |det h|``; infinite where it is trivial."""
    group = Affine(2)
    g = group.sample(100, generator=rng(seed), dtype=torch.float64)
    delta, det = group.modular_function(g), torch.linalg.det(g[:, :2, :2])
    return float((delta * det.abs() - 1).abs().max()) if float((delta - 1).abs().max()) > 0.1 else math.inf


def worst_score(run: Run[Any], group: SL | GLPlus, *, root: bool = True) -> float:
    """The larger of the scores from the left and from the right, for the samples of the budget."""
    count, moves = (run.budget.haar_samples, 20) if root else (run.budget.rootless_samples, 8)
    return largest(haar_scores(group, min(count, DRY) if run.dry else count, moves, run.seed, root=root))


@bound(at_most=4)
def haar_sl2(run: Run[Any]) -> float:
    """SL(2): difference of E[w F(g)] from E[w F(a g)] and E[w F(g a)], worst of 20 a, in standard errors."""
    return worst_score(run, SL(2))


@bound(at_most=4)
def haar_gl2(run: Run[Any]) -> float:
    """GL+(2): difference of E[w F(g)] from E[w F(a g)] and E[w F(g a)], worst of 20 a, in standard errors."""
    return worst_score(run, GLPlus(2))


@bound(at_least=4)
def root_needed_sl2(run: Run[Any]) -> float:
    """SL(2), S R without the root: distance of E[w F(g)] from E[w F(a g)] and E[w F(g a)], worst of 8 a, in standard errors."""
    return worst_score(run, SL(2), root=False)


@bound(at_least=4)
def root_needed_gl2(run: Run[Any]) -> float:
    """GL+(2), S R without the root: distance of E[w F(g)] from E[w F(a g)] and E[w F(g a)], worst of 8 a, in standard errors."""
    return worst_score(run, GLPlus(2), root=False)


@exact(tol=1e-10)
def modular_function(run: Run[Any]) -> float:
    """Relative error of the affine group's modular function against 1 / |det h|."""
    return modular_error(run.seed)


# --- kernels and layers ----------------------------------------------------------------------------------------------
def kernel_identity(group: SL | GLPlus | SO, seed: int) -> float:
    """``K[a H_out, a H_in]`` on the grid a z is ``K[H_out, H_in]`` on the grid z, but for the volume |det a|; float64."""
    layer = LieConv(group, 2, 3, generator=rng(seed)).double()
    lift = LieLift(group, 2, 3, generator=rng(seed)).double()
    first, second = (PolarSampler(group).draw(4, generator=rng(seed + k)) for k in (1, 2))
    a = PolarSampler(group).draw(1, generator=rng(seed + 3)).g[0]
    grid = layer.grid @ a.mT
    with torch.no_grad():
        still = layer.attach(first, second).weight(), lift.attach(first).weight()
        moved = layer.attach(first.moved(a), second.moved(a)).weight(grid), lift.attach(first.moved(a)).weight(grid)
    volume = torch.linalg.det(a)
    return largest(float((m * volume - s).norm() / s.norm()) for m, s in zip(moved, still, strict=True))


def quarter_turns() -> GroupSamples:
    """The four rotations that map pixels to pixels, without round-off."""
    turns = ((1.0, 0.0), (0.0, 1.0), (-1.0, 0.0), (0.0, -1.0))
    return GroupSamples.of(SO(2), torch.tensor([[[c, -s], [s, c]] for c, s in turns], dtype=torch.float64))


def p4_error(seed: int, dtype: torch.dtype = torch.float32) -> float:
    """H = C_4: fields of a turned image are turned, and their elements shifted; relative."""
    lift = LieLift(SO(2), 1, 3, generator=rng(seed)).to(dtype)
    conv = LieConv(SO(2), 3, 2, generator=rng(seed)).to(dtype)
    samples = quarter_turns()
    lift.attach(samples)
    conv.attach(samples)
    x = torch.randn(2, 1, 11, 11, generator=rng(seed), dtype=torch.float64).to(dtype)
    with torch.no_grad():
        out = conv(torch.tanh(lift(x)))
        turned = conv(torch.tanh(lift(x.rot90(1, (-2, -1)))))
    return float((turned - out.rot90(1, (-2, -1)).roll(1, 2)).norm() / out.norm())


def trivial_error(seed: int) -> float:
    """H = {I}: a plain convolution with the kernel's network at the pixels; relative, float64."""
    group = TrivialGroup(2)
    layer = LieConv(group, 2, 3, generator=rng(seed)).double()
    layer.attach(GroupSamples.of(group, torch.eye(2, dtype=torch.float64)[None]))
    x = torch.randn(2, 2, 1, 9, 9, generator=rng(seed), dtype=torch.float64)
    with torch.no_grad():
        values = layer.kernel.net(layer.grid) * (layer.grid.norm(dim=-1) <= 1)[..., None]
        weight = values.unflatten(-1, (3, 2)).permute(2, 3, 0, 1)
        expected = torch.nn.functional.conv2d(x[:, :, 0], weight, padding=2)
        return float((layer(x)[:, :, 0] - expected).norm() / expected.norm())


@exact(tol=1e-10)
def kernel_identity_sl2(run: Run[Any]) -> float:
    """SL(2): relative change of the kernel of moved samples on the moved grid, float64."""
    return kernel_identity(SL(2), run.seed)


@exact(tol=1e-10)
def kernel_identity_gl2(run: Run[Any]) -> float:
    """GL+(2): relative change of the kernel of moved samples on the moved grid, up to the volume, float64."""
    return kernel_identity(GLPlus(2), run.seed)


@exact(tol=1e-12)
def plain_case(run: Run[Any]) -> float:
    """H = {I}: relative difference to a plain convolution with the same kernel."""
    return trivial_error(run.seed)


@exact(tol=1e-5)
def four_fold_case(run: Run[Any]) -> float:
    """H = C_4: relative error of equivariance under quarter turns, float32."""
    return p4_error(run.seed)


# --- convergence -----------------------------------------------------------------------------------------------------
class ContinuousConv:
    """The group convolution at single points of ``R^2 x| H``, for a signal given by a formula: no pixels, no border.

    The signal is the lifting of a mixture of two Gaussians by a Gaussian kernel, which is a Gaussian mixture again. The
    integral over the plane is a sum over 8 x 16 nodes of the unit disc, which move with h and so are no source of error;
    that over H is the mean over samples.
    """

    def __init__(self, group: SL | GLPlus, seed: int) -> None:
        self.group = group
        self.kernel = GroupKernel(
            group, 1, 1, on_group=True, hidden=(12,), omega=2.0, mask="sigmoid", reach=0.3, generator=rng(seed)
        ).double()
        r = (torch.arange(8, dtype=torch.float64) + 0.5) / 8
        nodes = r[:, None, None] * planar_rotation(torch.arange(16, dtype=torch.float64) * (math.pi / 8))[:, :, 0]
        self.z = nodes.flatten(0, 1)
        self.area = (r * (2 * math.pi / (8 * 16)))[:, None].expand(-1, 16).flatten()

    def signal(self, y: Tensor, h: Tensor, a: Tensor) -> Tensor:
        """The lifting at points y ``[..., 2]`` and h ``[..., 2, 2]`` of the mixture moved by a."""
        total = torch.zeros((), dtype=torch.float64)
        for mean, spread, height in (((0.4, -0.2), (0.5, 0.3), 1.0), ((-0.5, 0.3), (0.3, 0.6), -0.7)):
            centre = torch.tensor(mean, dtype=torch.float64)
            # f = N(m, C) moved by a is |det a| N(a m, a C a^T); correlated with |det h|^-1 N(h c, h h^T / 4) of the kernel.
            C = a @ torch.diag(torch.tensor(spread, dtype=torch.float64) ** 2) @ a.mT + h @ h.mT / 4
            offset = y + h @ torch.tensor([0.2, 0.1], dtype=torch.float64) - a @ centre
            quadratic = (offset * torch.linalg.solve(C, offset[..., None])[..., 0]).sum(-1)
            total = total + height * torch.linalg.det(a) * torch.exp(-quadratic / 2) / torch.linalg.det(C).sqrt()
        return total

    @torch.no_grad()
    def __call__(self, x: Tensor, h: Tensor, samples: GroupSamples, a: Tensor, *, haar: bool) -> Tensor:
        """Estimates of the output at (x, h), before the mean: one for each sample, ``[N]``."""
        y = x + self.z @ h.mT
        features = self.kernel.features(torch.linalg.inv(h) @ samples.g)
        k = self.kernel(self.z, features[:, None])[..., 0, 0]
        values = (self.signal(y, samples.g[:, None], a) * k * self.area).sum(-1) * torch.linalg.det(h)
        return values / torch.linalg.det(samples.g) * (samples.log_weight.exp() if haar else 1)


@cache
def convergence(
    group: SL | GLPlus, sizes: tuple[int, ...], repeats: int, seed: int, *, haar: bool = True
) -> tuple[list[tuple[int, float]], float]:
    """Equivariance error against the number of samples, and how far it is from having mean zero, in standard errors.

    Compared are the outputs at (x, h) for a signal f, and at (a x, a h) for the moved f, each with samples of its own. The
    error is the root mean square over at least `repeats` repeats, relative to the output.
    """
    conv = ContinuousConv(group, seed)
    sampler = PolarSampler(group, 0.1)
    a = torch.tensor([[1.3, 0.35], [-0.2, 0.85]], dtype=torch.float64)
    a = a / torch.linalg.det(a).sqrt() if isinstance(group, SL) else a
    x, h = torch.tensor([0.1, 0.2], dtype=torch.float64), sampler.draw(1, generator=rng(seed + 2)).g[0]
    eye, generator = torch.eye(2, dtype=torch.float64), rng(seed + 3)
    total = max(sizes) * repeats
    still = conv(x, h, sampler.draw(total, generator=generator), eye, haar=haar)
    moved = conv(a @ x, a @ h, sampler.draw(total, generator=generator), a, haar=haar)
    gaps, scale = still - moved, still.mean().abs()
    score = float(gaps.mean().abs() / gaps.std() * math.sqrt(total))
    points = [(size, float(gaps.view(-1, size).mean(1).square().mean().sqrt() / scale)) for size in sizes]
    return points, score


def slope(points: list[tuple[int, float]]) -> float:
    """Exponent of a power law, by least squares of logarithms."""
    n, error = torch.tensor(points, dtype=torch.float64).log().unbind(-1)
    n, error = n - n.mean(), error - error.mean()
    return float((n * error).sum() / n.square().sum())


@number(-0.5, tol=0.15)
def monte_carlo_rate_sl2(run: Run[Any]) -> float:
    """SL(2): exponent of the error of equivariance in the number of samples, on a signal without pixels."""
    return slope(convergence(SL(2), run.budget.samples, 24, run.seed)[0])


@number(-0.5, tol=0.15)
def monte_carlo_rate_gl2(run: Run[Any]) -> float:
    """GL+(2): exponent of the error of equivariance in the number of samples, on a signal without pixels."""
    return slope(convergence(GLPlus(2), run.budget.samples, 24, run.seed)[0])


PROPERTIES = (
    polar,
    chart,
    surjective,
    modular_function,
    plain_case,
    four_fold_case,
    haar_sl2,
    root_needed_sl2,
    kernel_identity_sl2,
    monte_carlo_rate_sl2,
    haar_gl2,
    root_needed_gl2,
    kernel_identity_gl2,
    monte_carlo_rate_gl2,
)


def details_part(run: Run[Any]) -> Part:
    """What the properties sum up: errors by the number of samples, and elements that a logarithm would miss."""
    rows: list[dict[str, Any]] = []
    for group in (SL(2), GLPlus(2)):
        points, score = convergence(group, run.budget.samples, 24, run.seed)
        rows += [
            {"part": "convergence", "group": group.name, "samples": n, "error": error, "bias, standard errors": score}
            for n, error in points
        ]
    angles = {"full circle": math.pi, "as trained": 0.4}
    rows += [
        {"part": "without logarithm", "group": "SL(2)", "angles": name, "share": missed(angle, run.seed)}
        for name, angle in angles.items()
    ]
    return Part(rows)
