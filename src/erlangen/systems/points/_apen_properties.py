"""What holds exactly, on random clouds and random partitions."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Generator, Tensor, nn

from erlangen.enforce import PiecewiseFrameAverage, act_piecewise, symmetrize
from erlangen.geometry import fit_mixture, is_refinement, merge_parts
from erlangen.groups import E
from erlangen.measure import relative_change
from erlangen.survey.claims import Claim
from erlangen.symmetry import Symmetry
from erlangen.systems.points._apen_network import APEN, SegmentNet

POINTS, FINE, COARSE = 96, 8, 3
"""Points of a cloud, and parts of a fine and of a coarse partition."""


def clouds(count: int, seed: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Clouds ``[count, 96, 3]`` and labels of eight parts of twelve points, each without symmetry and with clear axes."""
    generator = Generator().manual_seed(seed)
    labels = torch.arange(POINTS).remainder(FINE).repeat(count, 1)
    x = torch.randn(count, POINTS, 3, generator=generator, dtype=torch.float64)
    x = (x + 0.4 * x.square()) * torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64)
    turns = E(3).sample((count, FINE), generator=generator, dtype=torch.float64)
    return act_piecewise(E(3), turns, x, labels).to(dtype), labels


def layer(parts: int, seed: int, dtype: torch.dtype = torch.float64) -> PiecewiseFrameAverage:
    """A random layer with eight invariants and two vectors."""
    torch.manual_seed(seed)
    return (
        PiecewiseFrameAverage(SegmentNet(0, 8 + 6, 16), E(3), parts, features=8, vectors=2, on_degenerate="allow")
        .to(dtype)
        .eval()
    )


@torch.no_grad()
def piecewise_error(model: PiecewiseFrameAverage, pos: Tensor, fine: Tensor, coarse: Tensor, seed: int) -> float:
    """Largest relative error of a layer that uses `fine` under random motions of the parts of `coarse`."""
    parts = int(coarse.max()) + 1
    g = E(3).sample((len(pos), parts), generator=Generator().manual_seed(seed), dtype=torch.float64).to(pos)
    out = model({"pos": pos, "labels": fine})
    moved = model({"pos": act_piecewise(E(3), g, pos, coarse), "labels": fine})
    expected = act_piecewise(E(3), g, out["vectors"], coarse, vectors=True)
    return max(relative_change(moved["vectors"], expected), relative_change(moved["features"], out["features"]))


class _OneSet(nn.Module):
    """A network of sets as one of clouds, for `erlangen.symmetrize`; the first vector of each point."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: Tensor) -> Tensor:
        index = torch.arange(len(x), device=x.device).repeat_interleave(x.shape[1])
        return self.block(x.flatten(0, 1), index, len(x))[:, 8:11].view_as(x)


@torch.no_grad()
def property_errors(count: int, seed: int) -> dict[str, float]:
    """The numbers that the exact claims bound, over `count` clouds."""
    pos, fine = clouds(count, seed)
    groups = torch.arange(FINE).remainder(COARSE).repeat(count, 1)
    coarse = merge_parts(fine, groups)
    crossing = (fine + torch.arange(POINTS) // FINE).remainder(FINE)  # each of its parts has points of all others
    model, single = layer(FINE, seed), layer(FINE, seed, torch.float32)
    one = layer(1, seed)
    whole = symmetrize(_OneSet(one.block), Symmetry(E(3), input="points", output="vectors"))
    together = {"pos": pos, "labels": torch.zeros_like(fine)}
    apart = {"pos": pos[:, :FINE], "labels": fine[:, :FINE]}
    renamed = {"pos": pos, "labels": FINE - 1 - fine}
    order = torch.randperm(POINTS, generator=Generator().manual_seed(seed))
    permuted = model({"pos": pos[:, order], "labels": fine[:, order]})
    plain = model({"pos": pos, "labels": fine})
    return {
        "given partition, float64": piecewise_error(model, pos, fine, fine, seed + 1),
        "given partition, float32": piecewise_error(single, pos.float(), fine, fine, seed + 1),
        "coarser partition": piecewise_error(model, pos, fine, coarse, seed + 2),
        "crossing partition": 1 / piecewise_error(model, pos, fine, crossing, seed + 2),
        "one part": relative_change(one(together)["vectors"][:, :, 0], whole(pos)),
        "points alone": float(model(apart)["vectors"].abs().max()),
        "points permuted": relative_change(permuted["vectors"], plain["vectors"][:, order]),
        "parts renamed": relative_change(model(renamed)["vectors"], plain["vectors"]),
        "order lost": float(order_violations(count, seed)),
        "likelihood lost": likelihood_loss(count, seed),
    }


def order_violations(count: int, seed: int) -> int:
    """How many partitions of an untrained network are not refinements of the next one."""
    torch.manual_seed(seed)
    pos = torch.randn(count, 128, 3, generator=Generator().manual_seed(seed))
    labels = APEN(4, (24, 12, 5), 16, reach=1.0, seed=seed).eval()(pos)["labels"]
    return sum(int((~is_refinement(fine, coarse)).sum()) for fine, coarse in pairwise(labels.unbind(1)))


def likelihood_loss(count: int, seed: int) -> float:
    """The largest fall of the log-likelihood in twenty steps, with learned and with fixed variances; 0 if it never falls."""
    generator = Generator().manual_seed(seed)
    x = torch.randn(count, 40, 4, generator=generator, dtype=torch.float64)
    weights = torch.rand(count, 40, generator=generator, dtype=torch.float64)
    falls = [
        fit_mixture(x, 6, 20, weights=weights, variance=variance, generator=generator).log_likelihood.diff(dim=1).amin()
        for variance in (None, 0.1)
    ]
    return max(0.0, -float(torch.stack(falls).min()))


def property_claims(errors: dict[str, float]) -> list[Claim]:
    """Claims about layers, partitions and mixtures."""
    statements: list[tuple[str, str, str, float]] = [
        ("given-partition", "Error under random elements of E(3)^8, for a given partition.", "given partition, float64", 1e-11),
        ("given-partition-float32", "The same in float32.", "given partition, float32", 1e-5),
        ("refinement-lemma", "Error of that layer under motions of unions of its parts.", "coarser partition", 1e-11),
        ("refinement-needed", "Inverse of its error under motions of parts that cross its own.", "crossing partition", 100.0),
        ("one-part-is-global", "Difference between one part and frame averaging of the whole cloud.", "one part", 1e-11),
        ("lone-points", "Largest vector at points that are parts by themselves, where no frame exists.", "points alone", 1e-12),
        ("points-permuted", "Permuted points give permuted answers.", "points permuted", 1e-11),
        ("parts-renamed", "Names of the parts do not matter.", "parts renamed", 1e-11),
        ("merging-keeps-order", "Partitions that do not refine that of the next layer.", "order lost", 0.0),
        ("likelihood-grows", "Largest fall of the likelihood in a step of expectation maximisation.", "likelihood lost", 1e-9),
    ]  # fmt: skip
    return [Claim.exact(name, text, measured=errors[key], tol=tol) for name, text, key, tol in statements]
