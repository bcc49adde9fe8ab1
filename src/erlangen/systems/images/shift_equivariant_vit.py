"""Shift-equivariant vision transformers: anchor every strided operation, and no circular shift is noticed any more.

Ding, Soselia, Armstrong, Su and Huang (2023) ask why vision transformers change their mind when an image moves by a pixel.
Attention itself does not mind; patches, windows, sub-sampled keys and tables of positions do. The remedy is *adaptive
polyphase anchoring*: before each operation with stride p the map is rolled so that its polyphase component (every p-th pixel)
of the largest norm comes first. A shift of the input then only moves the coarse grid, and the mean over tokens takes that away.
Positions come from a depth-wise convolution with circular padding. Both are parts of the library, for any network:
`erlangen.nn.PolyphaseAnchor`, `AnchoredPatchEmbed`, `AnchoredConv2d` and `Anchored`.

Re-measured here, on real handwritten digits (MNIST, padded to 32 x 32):

1. The law of the anchor, bit by bit, and the invariance of the logits under all 1024 circular shifts, with random and with
   trained weights, in float32 and float64. One ingredient is left out at a time (a table of positions, zero padding, patches,
   windows, keys without anchor), which must be noticed.
2. Two families, a plain vision transformer (patches of 4, width 48, three blocks) and Twins (attention in windows, then
   attention to sub-sampled keys, two stages). Of each: the usual form (a table; for Twins zero padding, which also tells the
   place), the same trained with random circular shifts, depth-wise positions with circular padding but without anchors, and
   anchored. Columns: accuracy on 600 test images ("clean"); on 12 of them for each seed, under all shifts: the share of
   answers that do not change ("consistency"), accuracy over all shifts, the share that is right under *every* shift ("worst
   shift"), and accuracy by distance; under real shifts by up to 8 pixels, where parts of digits leave and black comes in; and
   on random crops of 26 x 26, resized. Real shifts and crops are outside of the theorem.
3. Cost: milliseconds for each image, batches of 64, one thread, models in turns.
4. The audit's view: `erlangen.audit` with `Shifts(32, 32)` and every element of the group.

All models of a family have the same data, epochs, batch size, schedule and optimiser; each gets the better of two learning
rates on validation data after a third of the epochs. Differences to the paper: digits in place of ImageNet, 60 to 120
thousand parameters, no class token, and no layer norm after the embedding of patches. The latter matters: after a layer norm
all pixels have the same norm, so that all components tie and the next anchor follows rounding errors. Ties by chance remain:
anchors behind the first see maps with rounding errors, and rarely the two best of their components agree to within these. There
the proof ends and an answer may change; `PolyphaseAnchor` warns of it.
"""

from __future__ import annotations

import copy
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from erlangen import plots
from erlangen.data import digits
from erlangen.measure import accuracy, audit
from erlangen.soft import augment
from erlangen.survey.claims import Claim, Result, Scale, System
from erlangen.symmetry import Symmetry
from erlangen.systems.images import _vit_measures as measures
from erlangen.systems.images._vit_models import (
    EQUIVARIANT,
    Block,
    DepthwisePosition,
    GlobalAttention,
    PositionTable,
    Recipe,
    Twins,
    VisionTransformer,
    WindowAttention,
)
from erlangen.training import fit

__all__ = [
    "EQUIVARIANT",
    "SYSTEM",
    "Block",
    "DepthwisePosition",
    "GlobalAttention",
    "PositionTable",
    "Recipe",
    "Twins",
    "VisionTransformer",
    "WindowAttention",
    "experiment",
]

SYSTEM = System(
    title="Reviving Shift Equivariance in Vision Transformers",
    authors=("Peijian Ding", "Davit Soselia", "Thomas Armstrong", "Jiahao Su", "Furong Huang"),
    venue="arXiv",
    year=2023,
    arxiv="2306.07470",
    abstract_claims=(
        "Patch embedding, positional encoding and sub-sampled attention make vision transformers sensitive to small shifts.",
        "Adaptive polyphase anchoring with depth-wise convolutions for position restores shift equivariance.",
        "The models keep all answers under shifts, 100 % consistency, and stay robust to crops, flips and affine maps.",
        "Under shifts by a few pixels the accuracy of the originals falls by about 20 points on average; theirs does not.",
    ),
)

Row = dict[str, Any]
Family = Literal["ViT", "Twins"]
FAMILIES: tuple[Family, ...] = ("ViT", "Twins")
BUILD: dict[Family, Callable[[Recipe], nn.Module]] = {
    "ViT": lambda recipe: VisionTransformer(recipe, depth=3, heads=3),
    "Twins": lambda recipe: Twins(recipe, on_tie="allow"),  # what ties do to the answers is measured
}
RATES = (1e-3, 3e-3)
BATCH = 16
DISTANCES = (1, 2, 4, 8, 16)
SYMMETRY = Symmetry(measures.GROUP, input="image", output="invariant")


@dataclass(frozen=True)
class Method:
    """A row of the table: a family, what it is made of, and whether it is trained with shifts."""

    family: Family
    recipe: Recipe
    augmented: bool = False


USUAL: dict[Family, Recipe] = {
    "ViT": Recipe("table", anchors=frozenset()),
    "Twins": Recipe("depthwise", "zeros", frozenset()),
}
METHODS: dict[str, Method] = {
    name: method
    for family in FAMILIES
    for name, method in {
        family: Method(family, USUAL[family]),
        f"{family}, augmented": Method(family, USUAL[family], augmented=True),
        f"{family}, not anchored": Method(family, Recipe(anchors=frozenset())),
        f"{family}, anchored": Method(family, EQUIVARIANT),
    }.items()
}
NO_KEYS = Recipe(anchors=frozenset({"patches", "windows"}))
ABLATIONS: dict[str, tuple[Family, Callable[[], nn.Module]]] = {
    "a table of positions": ("ViT", lambda: BUILD["ViT"](Recipe("table"))),
    "zero padding": ("ViT", lambda: BUILD["ViT"](Recipe(padding="zeros"))),
    "patches not anchored": ("ViT", lambda: BUILD["ViT"](Recipe(anchors=frozenset({"windows", "keys"})))),
    "windows not anchored": ("Twins", lambda: Twins(Recipe(anchors=frozenset({"patches", "keys"})), on_tie="allow")),
    # Where windows are multiples of the stride of the keys, their anchors do for both; here they are not.
    "keys not anchored": ("Twins", lambda: Twins(NO_KEYS, windows=(2, 2), reduce=(4, 2), on_tie="allow")),
}
"""Models that lack one ingredient."""


def build(method: Method, seed: int) -> nn.Module:
    """The untrained model."""
    torch.manual_seed(seed)
    return BUILD[method.family](method.recipe).eval()


def padded(x: Tensor) -> Tensor:
    """Digits 28 x 28 in the middle of 32 x 32, in units of the standard deviation of their pixels; black stays 0."""
    return F.pad(x, (2, 2, 2, 2)) / 0.31


# --- 1. properties ---------------------------------------------------------------------------------------------------
def property_rows(images: int, shifts: int, cases: int, seed: int) -> list[Row]:
    """One row for each measured property."""
    x = padded(digits("test").x[:images])
    values: dict[str, float] = {
        "law of the anchor, exceptions": measures.law_exceptions(cases, seed),
        "component of the dense convolution": measures.component_error(seed),
    }
    for family in FAMILIES:
        model = build(Method(family, EQUIVARIANT), seed)
        values[f"{family}, untrained, float32"] = measures.change(model, x, shifts)
        values[f"{family}, untrained, float64"] = measures.change(model.double(), x.double(), shifts)
    for name, (family, make) in ABLATIONS.items():
        torch.manual_seed(seed)
        values[f"{family}, {name}"] = measures.change(make().eval(), x[:20], shifts)
    return [{"part": "properties", "model": name, "change of logits": value} for name, value in values.items()]


def property_claims(rows: Sequence[Row]) -> list[Claim]:
    """Claims about what holds before any training."""
    value = {row["model"]: row["change of logits"] for row in rows}
    claims = [
        Claim.exact(
            "anchor-law",
            "Maps for which the anchor of a shifted map is not the anchored map moved by a multiple of the stride, bit by bit.",
            measured=value["law of the anchor, exceptions"],
            tol=0,
        ),
        Claim.exact(
            "winning-component",
            "Difference between an anchored convolution and the winning polyphase component of the dense one, float64.",
            measured=value["component of the dense convolution"],
            tol=1e-12,
        ),
    ]
    for family in FAMILIES:
        for dtype, tol in (("float32", 1e-5), ("float64", 1e-12)):
            claims.append(
                Claim.exact(
                    f"{family.lower()}-untrained-{dtype}",
                    f"{family}, random weights: largest relative change of the logits under circular shifts, {dtype}.",
                    measured=value[f"{family}, untrained, {dtype}"],
                    tol=tol,
                )
            )
    claims += [
        Claim.ratio(
            f"noticed-{name.replace(' ', '-')}",
            f"The same of {family} with {name}, over 1e-3: every ingredient is needed.",
            measured=value[f"{family}, {name}"] / 1e-3,
            at_least=1,
        )
        for name, (family, _) in ABLATIONS.items()
    ]
    return claims


# --- 2. training -----------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Sizes:
    """How much of everything."""

    train: int
    test: int
    orbit: int
    audit: int
    epochs: int
    tune: bool


class Digits:
    """The digits of one seed: for training, validation and test, and the test's under real shifts and as crops."""

    def __init__(self, sizes: Sizes, seed: int) -> None:
        pool, held = digits("train"), digits("test")
        order = torch.randperm(len(pool.x), generator=measures.rng(seed))
        chosen, spare = order[: sizes.train], order[-500:]
        self.x, self.y = padded(pool.x[chosen]), pool.y[chosen]
        self.validation = padded(pool.x[spare]), pool.y[spare]
        mine = torch.randperm(len(held.x), generator=measures.rng(seed + 1))[: sizes.test]
        x, self.labels = padded(held.x[mine]), held.y[mine]
        self.tests = {
            "clean": x,
            "real shifts": measures.real_shifts(x, 8, seed + 2),
            "crops": measures.crops(x, 26, seed + 3),
        }


def train(method: Method, data: Digits, epochs: int, lr: float, seed: int) -> nn.Module:
    """Train one model: a first epoch at 0.3 of the learning rate, then from near the whole down as a cosine."""
    model = build(method, seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=1e-2)

    def anneal(done: int) -> None:
        rate = 0.3 if done == 0 else (1 + math.cos(math.pi * done / epochs)) / 2
        for group in optimizer.param_groups:
            group["lr"] = lr * rate

    anneal(0)
    fit(
        model,
        data.x,
        data.y,
        loss=F.cross_entropy,
        epochs=epochs,
        batch_size=BATCH,
        optimizer=lambda _: optimizer,
        transform=augment(SYMMETRY) if method.augmented else None,
        clip=1.0,
        callbacks=[lambda epoch, _model, _row: anneal(epoch + 1)],
        seed=seed,
        progress=False,
    )
    return model.eval()


def tuned(method: Method, data: Digits, epochs: int, seed: int) -> float:
    """The learning rate with the best validation accuracy after a third of the epochs; the first of equals."""
    short = max(epochs // 3, 1)
    return max(RATES, key=lambda lr: accuracy(train(method, data, short, lr, seed), *data.validation))


def tested(model: nn.Module, data: Digits, sizes: Sizes) -> Row:
    """What is measured about a trained model."""
    row: Row = {name: accuracy(model, x, data.labels) for name, x in data.tests.items()}
    scores = measures.orbit_scores(model, data.tests["clean"][: sizes.orbit], data.labels[: sizes.orbit])
    return row | {
        "consistency": measures.percent(scores.same),
        "unmoved": measures.percent(scores.right[0]),
        "all shifts": measures.percent(scores.right),
        "worst shift": scores.worst,
        **{f"distance {d}": scores.at_distance(d) for d in DISTANCES},
        "change of logits": scores.change,
    }


def of_one(method: Method, model: nn.Module, data: Digits, sizes: Sizes) -> Row:
    """What is measured for the first seed only: the audit, where it says most, and the exact form in float64."""
    x, y = data.tests["clean"], data.labels
    row: Row = {}
    if not method.augmented and method.recipe in (EQUIVARIANT, USUAL[method.family]):
        report = audit(model, SYMMETRY, x[: sizes.audit], y[: sizes.audit], progress=False)  # all 1024 elements
        row[f"audit, {report.certificate}"] = report.worst_error
    if method.recipe.equivariant:
        double = copy.deepcopy(model).double()
        row["change of logits, float64"] = measures.change(double, x[: sizes.orbit].double(), 16)
    return row


def trained_rows(sizes: Sizes, seeds: Sequence[int]) -> list[Row]:
    """One row for each method, means over seeds; the largest of all seeds where a bound is claimed."""
    sets = [Digits(sizes, seed) for seed in seeds]
    rows: list[Row] = []
    first: list[nn.Module] = []
    for name, method in METHODS.items():
        lr = tuned(method, sets[0], sizes.epochs, seeds[0]) if sizes.tune else RATES[-1]
        models = [train(method, data, sizes.epochs, lr, seed) for data, seed in zip(sets, seeds, strict=True)]
        row = over_seeds([tested(model, data, sizes) for model, data in zip(models, sets, strict=True)])
        row |= of_one(method, models[0], sets[0], sizes)
        parameters = sum(p.numel() for p in models[0].parameters())
        fixed = {"parameters": parameters, "learning rate": f"{lr:g}", "epochs": sizes.epochs, "digits": sizes.train}
        rows.append({"part": "digits", "model": name, **row, **fixed, "seeds": len(seeds)})
        first.append(models[0])
    times = measures.milliseconds(first, sets[0].tests["clean"][:64], 15)
    return [{**row, "ms per image": ms} for row, ms in zip(rows, times, strict=True)]


def over_seeds(runs: Sequence[Row]) -> Row:
    """Means over seeds and, of accuracies, standard deviations; of bounds the largest."""
    row: Row = {}
    for key in runs[0]:
        values = [run[key] for run in runs]
        row[key] = max(values) if key == "change of logits" else statistics.mean(values)
        if len(runs) > 1 and key in ("clean", "worst shift", "consistency", "real shifts", "crops"):
            row[f"{key}, spread"] = statistics.stdev(values)
    return row


def trained_claims(rows: Sequence[Row]) -> list[Claim]:
    """Claims about trained models."""
    table = {row["model"]: row for row in rows}
    claims = [claim for family in FAMILIES for claim in family_claims(family, table)]
    return [
        *claims,
        Claim.not_measurable(
            "published-imagenet",
            "Top-1 accuracy of Twins on ImageNet, as it is and under the worst of small shifts.",
            published="80.57 and 62.40",
            reason="needs ImageNet and a model trained on it; the same comparison on digits is above",
        ),
    ]


def family_claims(family: Family, table: dict[str, Row]) -> list[Claim]:
    """Claims about one family."""
    usual, augmented, loose, ours = (table[name] for name, method in METHODS.items() if method.family == family)
    slug = family.lower()

    def points(name: str, text: str, measured: float, at_least: float, published: str | None = None) -> Claim:
        return Claim.ratio(
            f"{slug}-{name}", f"{family}: {text}", measured=measured, at_least=at_least, published=published
        )

    return [
        Claim.exact(
            f"{slug}-consistency",
            f"{family}, anchored: percent of answers that change under any of the 1024 circular shifts.",
            measured=100 - ours["consistency"],
            tol=0,
            published="0 (100 % consistency)",
        ),
        Claim.exact(
            f"{slug}-worst-is-clean",
            f"{family}, anchored: points between the accuracy unmoved and under the worst shift of each image.",
            measured=ours["unmoved"] - ours["worst shift"],
            tol=0,
        ),
        Claim.exact(
            f"{slug}-trained-float32",
            f"{family}, anchored, trained: largest relative change of the logits under all circular shifts, float32.",
            measured=ours["change of logits"],
        ),
        Claim.exact(
            f"{slug}-trained-float64",
            f"{family}, anchored, trained: the same in float64.",
            measured=ours["change of logits, float64"],
            tol=1e-12,
        ),
        Claim.exact(
            f"{slug}-audit",
            f"{family}, anchored: worst error in an exact audit over Shifts(32, 32), float32.",
            measured=ours["audit, exact"],
        ),
        points(
            "usual-loses",
            "points that the usual form loses from unmoved to the worst shift of each image.",
            usual["unmoved"] - usual["worst shift"],
            20,
            "about 20",
        ),
        points(
            "clean-kept",
            "accuracy of the anchored form minus that of the usual one, unmoved, points.",
            ours["clean"] - usual["clean"],
            -1.5,
        ),
        points(
            "beats-augmentation",
            "worst-shift accuracy of the anchored form minus that of training with shifts, points.",
            ours["worst shift"] - augmented["worst shift"],
            0,
        ),
        points(
            "anchors-needed",
            "worst-shift accuracy of the anchored form minus that without anchors, points.",
            ours["worst shift"] - loose["worst shift"],
            0,
        ),
        points(
            "real-shifts",
            "accuracy under real shifts of the anchored form minus that of the usual one, points.",
            ours["real shifts"] - usual["real shifts"],
            0,
        ),
        points(
            "crops",
            "accuracy on crops of the anchored form minus that of the usual one, points.",
            ours["crops"] - usual["crops"],
            0,
            "robust to crops",
        ),
        Claim.ratio(
            f"{slug}-overhead",
            f"{family}: time for an image of the anchored form over that without anchors.",
            measured=ours["ms per image"] / loose["ms per image"],
            at_most=1.6,
        ),
    ]


# --- all -------------------------------------------------------------------------------------------------------------
def experiment(scale: Scale, seed: int) -> Result:
    """Both parts; "full" has three seeds and tunes the learning rate."""
    full = scale == "full"
    measured = property_rows(*((200, 16, 1000) if full else (40, 4, 100)), seed)
    sizes = (
        Sizes(train=2000, test=600, orbit=12, audit=4, epochs=5, tune=True)
        if full
        else Sizes(train=64, test=64, orbit=1, audit=1, epochs=1, tune=False)
    )
    trained = trained_rows(sizes, [seed + 10 * k for k in range(3 if full else 1)])
    return Result([*measured, *trained], [*property_claims(measured), *trained_claims(trained)])


def figure(result: Result) -> plots.Figure:
    """Accuracy unmoved, over all circular shifts, and under the worst shift of each image, by model."""
    rows = [row for row in result.rows if row["part"] == "digits"]
    columns = {"unmoved": "unmoved", "all shifts": "mean over all shifts", "worst shift": "right under every shift"}
    series = {label: [row[column] / 100 for row in rows] for column, label in columns.items()}
    return plots.barh(series, [row["model"] for row in rows], "accuracy", percent=True)
