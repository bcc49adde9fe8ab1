"""Invariance as a constraint: bound the loss on transformed data, and let a multiplier say how much augmentation it takes.

Hounie, Chamon and Ribeiro (2023) do not choose augmentations by hand. They train on the data as they are, under the
condition that the loss on transformed data, drawn in proportion to that loss, stays below a limit. The dual variable of the
condition turns augmentation up while it is violated and down when it is met, and its size tells what the invariance costs.
The method is `erlangen.augment` with ``policy="constrained"``; what is here are its measurements.

Re-measured here:

1. Exact properties: the law of the Metropolis-Hastings sampler on finite groups, the mean loss under that law, a convex
   problem whose optimum and multiplier are known, and that a condition which holds from the start changes nothing, bit by bit.
2. Pictures in worlds whose symmetry is known, with few of them to train on. Digits: tested upright; tested after random
   turns, with 6 and 9 as one class; tested after shifts by up to six pixels. Clothes (Fashion-MNIST, where Debian's package
   dataset-fashion-mnist is installed): tested mirrored at random. Training pictures are as they come in all worlds. Five
   families of transformations: turns by any angle, shifts by up to six pixels, scales from 0.7 to 1.4, mirror images, and
   contrast (no group; a function of the batch).
3. Which families cost most: the multipliers of one condition for each family.

Rows: no augmentation; a random family for every sample with random strength ("random"); the family of the world alone
("oracle"); the worst of four random transformations ("adversarial"); one condition on random families ("constrained"); one
condition for each family ("constrained, each"). All train the same small CNN on the same pictures in equally many epochs,
and each method with a number to choose (the share of moved samples, or the limit in units of log(classes)) takes the best of
three on 500 other pictures of the world, after a third of the epochs with the first seed.

What differs from the paper: digits and clothes with a small network instead of CIFAR with wide residual networks, five families
instead of fourteen operations, the limit as a share of log(classes), and a dual step that fits hundreds of steps instead of
tens of thousands. Samples are mixed in the proportion of the multipliers, the paper's variant with one forward pass.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from scipy.stats import chisquare
from torch import Generator, Tensor, nn
from torch.nn.functional import cross_entropy

from erlangen import plots
from erlangen.data import ImageData, digits, fashion
from erlangen.errors import DataError
from erlangen.groups import SO, Cyclic, Dihedral, Group, Scaling, Translation
from erlangen.measure import accuracy
from erlangen.soft import ConstrainedAugment, augment, metropolis
from erlangen.survey.claims import Claim, Result, Scale, System, averaged
from erlangen.symmetry import Symmetry
from erlangen.training import fit

__all__ = ["FAMILIES", "METHODS", "SYSTEM", "World", "experiment", "figure"]

SYSTEM = System(
    title="Automatic Data Augmentation via Invariance-Constrained Learning",
    authors=("Ignacio Hounie", "Luiz F. O. Chamon", "Alejandro Ribeiro"),
    venue="ICML",
    year=2023,
    arxiv="2209.15031",
    abstract_claims=(
        "Augmentation becomes learning under an invariance constraint, solved by a primal-dual method.",
        "A sampler draws transformations by their loss, so that nobody has to say how they are distributed.",
        "It turns augmentation on and off during training, and matches or beats automatic augmentation on CIFAR.",
    ),
)

Row = dict[str, Any]
Transform = Callable[..., tuple[Tensor, Tensor]]
REACH = 6
"""Largest shift, in pixels."""
DUAL_LR = 0.05
LOG_LIMITS = (0.1, 0.25, 0.5)
"""Limits to choose from, in units of log(classes)."""
SHARES = (0.3, 0.6, 1.0)
"""Shares of moved samples to choose from."""


# --- transformations -------------------------------------------------------------------------------------------------
def _family(group: Group, elements: Tensor | None = None) -> Transform:
    return augment(Symmetry(group, input="image", output="invariant"), elements=elements)


def _shifts() -> Tensor:
    """All shifts by whole pixels up to `REACH` along both axes."""
    steps = torch.arange(-REACH, REACH + 1).float()
    return Translation(2).exp(torch.cartesian_prod(steps, steps))


def contrast(x: Tensor, y: Tensor, *, generator: Generator | None = None) -> tuple[Tensor, Tensor]:
    """Each image ``[B, C, H, W]`` in 0..1 to a random power, from 1/3 to 3."""
    power = 3 ** (2 * torch.rand(len(x), 1, 1, 1, generator=generator) - 1)
    return x.clamp(min=1e-6) ** power * (x > 0), y


FAMILIES: dict[str, Transform] = {
    "turns": _family(SO(2)),
    "shifts": _family(Translation(2), _shifts()),
    "scales": _family(Scaling(2), Scaling(2).exp(torch.linspace(math.log(0.7), math.log(1.4), 41)[:, None])),
    "mirror": _family(Dihedral(1)),
    "contrast": contrast,
}


class RandomFamily:
    """A random family for every sample, and with probability 1 - `share` none."""

    def __init__(self, share: float = 1.0) -> None:
        self.share = share

    def __call__(self, x: Tensor, y: Tensor, *, generator: Generator | None = None) -> tuple[Tensor, Tensor]:
        """The moved batch."""
        family = torch.randint(len(FAMILIES), (len(x),), generator=generator)
        still = torch.rand(len(x), generator=generator) >= self.share
        out = x.clone()
        for index, transform in enumerate(FAMILIES.values()):
            rows = ((family == index) & ~still).nonzero()[:, 0]
            if len(rows):
                out[rows] = transform(x[rows], y[rows], generator=generator)[0]
        return out, y


# --- worlds ----------------------------------------------------------------------------------------------------------
class World(NamedTuple):
    """Pictures to train on as they come, and how those of the test are moved; None for not at all."""

    name: str
    load: Callable[[str], ImageData]
    moved_by: str | None
    merge: tuple[int, int] | None = None


def _digits(split: str) -> ImageData:
    return digits("train" if split == "train" else "test")


def _fashion(split: str) -> ImageData:
    return fashion("train" if split == "train" else "test")


WORLDS = (
    World("upright digits", _digits, None),
    World("turned digits", _digits, "turns", (9, 6)),
    World("moved digits", _digits, "shifts"),
    World("mirrored clothes", _fashion, "mirror"),
)


class Sets(NamedTuple):
    """Pictures and labels to train, to choose a number with, and to test."""

    train: tuple[Tensor, Tensor]
    validation: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]


def sets(world: World, sizes: tuple[int, int, int], seed: int) -> Sets:
    """Random pictures of a world."""
    generator = Generator().manual_seed(seed)
    pool, held = world.load("train"), world.load("test")
    order = torch.randperm(len(pool.x), generator=generator)
    few = torch.randperm(len(held.x), generator=generator)[: sizes[2]]
    chosen, spare = order[: sizes[0]], order[sizes[0] : sizes[0] + sizes[1]]

    def part(data: ImageData, rows: Tensor, move: bool) -> tuple[Tensor, Tensor]:
        x, y = data.x[rows], data.y[rows].clone()
        if world.merge is not None:
            y[y == world.merge[0]] = world.merge[1]
        return FAMILIES[world.moved_by](x, y, generator=generator) if move and world.moved_by else (x, y)

    return Sets(part(pool, chosen, move=False), part(pool, spare, move=True), part(held, few, move=True))


# --- training --------------------------------------------------------------------------------------------------------
def network() -> nn.Module:
    """A small CNN on images ``[B, 1, 28, 28]``."""
    return nn.Sequential(
        *(nn.Conv2d(1, 16, 5, stride=2, padding=2), nn.ReLU(), nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(32 * 49, 64), nn.ReLU(), nn.Linear(64, 10)),
    )


def each_loss(scores: Tensor, y: Tensor) -> Tensor:
    """Cross entropy of every sample."""
    return cross_entropy(scores, y, reduction="none")


def policy(method: str, number: float, world: World, model: nn.Module, seed: int) -> Transform | None:
    """The transform of a method; `number` is the share of moved samples, or the limit over log(classes)."""
    options: dict[str, Any] = {"model": model, "loss": each_loss}
    if method == "none" or (method == "oracle" and world.moved_by is None):
        return None
    if method == "oracle":
        return Sometimes(FAMILIES[world.moved_by or ""], number)
    if method == "random":
        return RandomFamily(number)
    if method == "adversarial":
        return Sometimes(augment(RandomFamily(), policy="adversarial", tries=4, **options), number)
    families = [RandomFamily()] if method == "constrained" else list(FAMILIES.values())
    limit = number * math.log(10)
    return augment(families, policy="constrained", limit=limit, dual_lr=DUAL_LR, seed=seed, **options)


class Sometimes:
    """A transform on a share of the samples."""

    def __init__(self, transform: Transform, share: float) -> None:
        self.transform, self.share = transform, share

    def __call__(self, x: Tensor, y: Tensor, *, generator: Generator | None = None) -> tuple[Tensor, Tensor]:
        """The batch with some of its samples moved."""
        moves = torch.rand(len(x), generator=generator) < self.share
        moved, _ = self.transform(x, y, generator=generator)
        return torch.where(moves[:, None, None, None], moved, x), y


METHODS: dict[str, tuple[float, ...]] = {
    "none": (0.0,),
    "random": SHARES,
    "oracle": SHARES,
    "adversarial": SHARES,
    "constrained": LOG_LIMITS,
    "constrained, each": LOG_LIMITS,
}
"""Methods, and the numbers that each may choose from."""


def train(method: str, number: float, world: World, data: Sets, epochs: int, seed: int) -> tuple[nn.Module, Row]:
    """A trained network, and for constrained methods the multipliers and slacks, means over the last quarter."""
    torch.manual_seed(seed)
    model = network()
    transform = policy(method, number, world, model, seed)
    late: list[tuple[Tensor, Tensor]] = []

    def watch(epoch: int, _: nn.Module, __: dict[str, float]) -> None:
        if isinstance(transform, ConstrainedAugment) and epoch >= epochs - max(1, epochs // 4):
            late.append((transform.multipliers.clone(), transform.slacks.clone()))

    options: dict[str, Any] = {"loss": cross_entropy, "batch_size": 50, "lr": 2e-3, "seed": seed, "progress": False}
    fit(model, *data.train, epochs=epochs, transform=transform, callbacks=[watch], **options)
    extra: Row = {}
    if late:
        nu, slack = (torch.stack(values).mean(0) for values in zip(*late, strict=True))
        names = list(FAMILIES) if len(nu) > 1 else ["all"]
        extra = {f"nu {name}": float(value) for name, value in zip(names, nu, strict=True)}
        extra["violation / limit"] = float(slack.clamp(min=0).mean()) / (number * math.log(10))
    return model, extra


def chosen(method: str, world: World, data: Sets, epochs: int, seed: int) -> float:
    """The number of the best validation accuracy after a third of the epochs; the first of equals."""
    numbers = METHODS[method]
    if len(numbers) == 1 or (method == "oracle" and world.moved_by is None):
        return numbers[0]
    short = max(1, epochs // 3)
    return max(
        numbers, key=lambda n: accuracy(train(method, n, world, data, short, seed)[0], *data.validation, batch=500)
    )


def world_rows(world: World, sizes: tuple[int, int, int], epochs: int, seeds: Sequence[int], tune: bool) -> list[Row]:
    """One row for each method: means over seeds."""
    every = [sets(world, sizes, seed) for seed in seeds]
    rows: list[Row] = []
    for method, numbers in METHODS.items():
        number = chosen(method, world, every[0], epochs, seeds[0]) if tune else numbers[len(numbers) // 2]
        runs: list[Row] = []
        for data, seed in zip(every, seeds, strict=True):
            begin = time.perf_counter()
            model, extra = train(method, number, world, data, epochs, seed)
            runs.append(
                {"accuracy": accuracy(model, *data.test, batch=500), **extra, "seconds": time.perf_counter() - begin}
            )
        row = averaged(runs, part="worlds", world=world.name, method=method)
        if method == "constrained, each":
            row["costliest"] = ", ".join(costliest(run) for run in runs)
        rows.append(row | {"number": number, "pictures": sizes[0], "epochs": epochs})
    return rows


def costliest(run: Row) -> str:
    """The family of the largest multiplier."""
    return max(FAMILIES, key=lambda family: run[f"nu {family}"])


# --- exact properties ------------------------------------------------------------------------------------------------
def sampler_law(group: Group, chains: int, seed: int) -> float:
    """p-value of the ends of chains of 50 steps against the law proportional to a fixed loss."""
    generator = Generator().manual_seed(seed)
    g = group.sample((50, chains), generator=generator)
    loss = torch.rand(int(group.order), generator=generator, dtype=torch.float64) + 0.05
    ends = g.gather(0, metropolis(loss[g], generator)[None])[0]
    counts = torch.bincount(ends, minlength=len(loss)).double()
    return float(chisquare(counts.numpy(), (chains * loss / loss.sum()).numpy()).pvalue)


def excess(chains: int, seed: int) -> float:
    """Error of ``E_lambda[l] - E_pi[l] = Var_pi(l) / E_pi[l]`` for ``l = 1 + cos``, in standard errors."""
    generator = Generator().manual_seed(seed)
    loss = 1 + torch.cos(2 * math.pi * torch.rand(60, chains, generator=generator, dtype=torch.float64))
    ends = loss.gather(0, metropolis(loss, generator)[None])[0]
    return float((ends.mean() - 1.5).abs() / (ends.std() / math.sqrt(chains)))


class _Line(nn.Module):
    """``w x``."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.ones((), dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return self.w * x


def convex_errors(limit: float) -> tuple[float, float]:
    """Errors of w and of the multiplier for min (w - 1)^2 with (w + 1)^2 <= limit: w = sqrt(limit) - 1."""

    def negative(x: Tensor, y: Tensor, *, generator: Generator | None = None) -> tuple[Tensor, Tensor]:
        return -x, y

    def squared(a: Tensor, b: Tensor) -> Tensor:
        return (a - b).square().sum(1)

    model, x = _Line(), torch.ones(2, 1, dtype=torch.float64)
    bound = augment(negative, policy="constrained", model=model, loss=squared, limit=limit, tries=1, dual_lr=0.02)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for _ in range(1200):
        optimizer.zero_grad()
        bound.objective(model, x, x).backward()
        optimizer.step()
    root = math.sqrt(limit)
    price = (2 - root) / root
    return abs(float(model.w.detach()) - (root - 1)), abs(float(bound.multipliers) - price) / price


def slack_difference(seed: int) -> float:
    """Largest difference of the weights after training with a condition that always holds, and without it."""
    data = sets(WORLDS[0], (100, 1, 1), seed)
    weights: list[Tensor] = []
    for constrained in (True, False):
        torch.manual_seed(seed)
        model = network()
        bound = augment(list(FAMILIES.values()), policy="constrained", model=model, loss=each_loss, limit=1e6)
        objective = bound.objective if constrained else None
        fit(model, *data.train, loss=cross_entropy, objective=objective, epochs=2, seed=seed, progress=False)
        weights.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    return float((weights[0] - weights[1]).abs().max())


def exact_rows(chains: int, seed: int) -> list[Row]:
    """One row for each property."""
    found = {f"law on {g.name}, p": sampler_law(g, chains, seed + k) for k, g in enumerate((Cyclic(8), Dihedral(4)))}
    found["excess of the mean loss, standard errors"] = excess(chains, seed)
    found["convex: error of the optimum"], found["convex: error of the multiplier"] = convex_errors(1.0)
    found["slack: difference of the weights"] = slack_difference(seed)
    return [{"part": "properties", "method": name, "value": value} for name, value in found.items()]


# --- claims ----------------------------------------------------------------------------------------------------------
def exact_claims(rows: Sequence[Row]) -> list[Claim]:
    """Claims about the properties."""
    value = {row["method"]: row["value"] for row in rows}
    return [
        Claim.ratio(
            "sampler-law",
            "p-value of the sampler's ends on C_8 and D_4 against the law proportional to the loss, the smaller one.",
            measured=min(value["law on Cyclic(8), p"], value["law on Dihedral(4), p"]),
            at_least=0.01,
        ),
        Claim.exact(
            "mean-loss-of-the-law",
            "Error of E_lambda[l] - E_pi[l] = Var_pi(l) / E_pi[l], in standard errors.",
            measured=value["excess of the mean loss, standard errors"],
            tol=4,
        ),
        Claim.exact(
            "convex-optimum",
            "Error of the optimum of a convex problem.",
            measured=value["convex: error of the optimum"],
            tol=1e-3,
        ),
        Claim.exact(
            "multiplier-is-the-price",
            "Relative error of the multiplier against the derivative of the optimal loss by the limit.",
            measured=value["convex: error of the multiplier"],
            tol=0.02,
        ),
        Claim.exact(
            "slack-changes-nothing",
            "Difference of weights trained under a condition that always holds and without it.",
            measured=value["slack: difference of the weights"],
            tol=0,
        ),
    ]


def world_claims(rows: Sequence[Row]) -> list[Claim]:
    """Claims about worlds of digits and clothes."""
    table = {(row["world"], row["method"]): row for row in rows}
    worlds = list(dict.fromkeys(row["world"] for row in rows))
    ours = "constrained, each"
    gains = [table[w, ours]["accuracy"] - table[w, "random"]["accuracy"] for w in worlds]
    wrong = sum(name not in ("turns", "mirror") for name in table[worlds[0], ours]["costliest"].split(", "))
    return [
        Claim.ratio(
            "close-to-the-oracle",
            "Points of accuracy by which the oracle is ahead of conditions on each family, the most of all worlds.",
            measured=max(table[w, "oracle"]["accuracy"] - table[w, ours]["accuracy"] for w in worlds),
            at_most=1,
        ),
        Claim.ratio(
            "ahead-of-random",
            "Points of accuracy by which conditions on each family are ahead of random augmentation, in the second best world.",
            measured=sorted(gains)[-2],
            at_least=2,
            published="state of the art among automatic augmentation on CIFAR",
        ),
        Claim.ratio(
            "ahead-of-none",
            "Points of accuracy by which one condition is ahead of no augmentation, the least of the worlds with a symmetry.",
            measured=min(table[w, "constrained"]["accuracy"] - table[w, "none"]["accuracy"] for w in worlds[1:]),
            at_least=2,
        ),
        Claim.exact(
            "multipliers-name-what-costs",
            "Seeds in which the costliest family of upright digits is neither turns nor mirror images.",
            measured=wrong,
            tol=0,
        ),
        Claim.ratio(
            "constraint-is-met",
            "Mean violation over the limit at the end, conditions on each family, the most of all worlds.",
            measured=max(table[w, ours]["violation / limit"] for w in worlds),
            at_most=0.05,
        ),
        Claim.not_measurable(
            "published-benchmarks",
            "State of the art among automatic augmentation methods on CIFAR-10, CIFAR-100 and SVHN.",
            published="reported with wide residual networks",
            reason="needs these data sets and days on a GPU; digits and clothes are above",
        ),
    ]


def experiment(scale: Scale, seed: int) -> Result:
    """The three parts; "full" has three seeds and all worlds, "smoke" two worlds of digits."""
    full = scale == "full"
    exact = exact_rows(20_000 if full else 5000, seed)
    worlds = list(WORLDS) if full and _has_fashion() else list(WORLDS[:-1])
    seeds = [seed + k for k in range(3 if full else 1)]
    sizes, epochs = ((1000, 500, 2000), 12) if full else ((100, 20, 100), 1)
    rows = [row for world in worlds for row in world_rows(world, sizes, epochs, seeds, tune=full)]
    return Result([*exact, *rows], [*exact_claims(exact), *world_claims(rows)])


def _has_fashion() -> bool:
    try:
        fashion("test")
    except DataError:
        return False
    return True


# --- picture ---------------------------------------------------------------------------------------------------------
def figure(result: Result) -> plots.Figure:
    """Accuracy of every method in every world, and the multipliers of the families."""
    rows = [row for row in result.rows if row["part"] == "worlds"]
    worlds = list(dict.fromkeys(row["world"] for row in rows))
    table = {(row["world"], row["method"]): row for row in rows}
    scores = {w: [table[w, method]["accuracy"] / 100 for method in METHODS] for w in worlds}
    costs = {w: [table[w, "constrained, each"][f"nu {family}"] for family in FAMILIES] for w in worlds}
    drawn, (left, right) = plots.panels(2)
    plots.barh(scores, list(METHODS), "accuracy", percent=True, ax=left)
    plots.barh(costs, list(FAMILIES), "multiplier: what the invariance costs", ax=right)
    return drawn
