"""What is measured of anchored transformers: the law of the anchor, digits under all shifts, and time."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from erlangen import plots
from erlangen.data import digits
from erlangen.measure import accuracy, audit
from erlangen.soft import augment
from erlangen.survey import (
    Claim,
    Part,
    Property,
    Result,
    Rival,
    Run,
    Sizes,
    Split,
    Table,
    Training,
    bound,
    compare,
    exact,
    properties,
    sweep,
)
from erlangen.symmetry import Symmetry
from erlangen.systems.images.shift_equivariant_vit import _measures as measures
from erlangen.systems.images.shift_equivariant_vit.method import EQUIVARIANT, Recipe, Twins, VisionTransformer
from erlangen.training import one_cycle

Family = Literal["ViT", "Twins"]
FAMILIES: tuple[Family, ...] = ("ViT", "Twins")
DISTANCES = (1, 2, 4, 8, 16)
LARGER = ("clean", "real shifts", "crops", "consistency", "unmoved", "all shifts", "worst shift", "distance")
"""Columns that are better when they are larger."""
FORMS = {
    "": "the usual form",
    ", augmented": "the usual form trained with random circular shifts for as many epochs",
    ", not anchored": "the form without anchors",
}
"""What statements call the rivals of the anchored form."""
SYMMETRY = Symmetry(measures.GROUP, input="image", output="invariant")


@dataclass(frozen=True)
class Budget:
    """What a run spends: digits, epochs, test digits under all shifts and in an audit, cases and shifts of properties."""

    seeds: int
    digits: Sizes
    epochs: int
    orbit: int
    audit: int
    cases: int
    images: int
    shifts: int
    rounds: int


BUDGETS = {
    "smoke": Budget(1, Sizes(64, 50, 64), 1, 1, 1, cases=100, images=20, shifts=2, rounds=3),
    "full": Budget(3, Sizes(7000, 500, 600), 10, 12, 4, cases=1000, images=200, shifts=16, rounds=15),
    "paper": Budget(5, Sizes(7000, 500, 2500), 300, 200, 100, cases=1000, images=200, shifts=1024, rounds=15),
}


def transformer(family: Family, recipe: Recipe) -> nn.Module:
    """An untrained model."""
    if family == "ViT":
        return VisionTransformer(recipe, depth=3, heads=3)
    return Twins(recipe, on_tie="allow")  # what ties do to the answers is measured


def usual(family: Family) -> Recipe:
    """The form that is in use: a table of positions; of Twins zero padding, which also tells the place."""
    return Recipe("table", anchors=frozenset()) if family == "ViT" else Recipe("depthwise", "zeros", frozenset())


def padded(x: Tensor) -> Tensor:
    """Digits 28 x 28 in the middle of 32 x 32, in units of the standard deviation of their pixels; black stays 0."""
    return F.pad(x, (2, 2, 2, 2)) / 0.31


# --- properties ------------------------------------------------------------------------------------------------------
@exact(tol=0)
def anchor_law(run: Run[Budget]) -> float:
    """Maps for which the anchor of a shifted map is not the anchored map moved by a multiple of the stride, bit by bit."""
    return measures.law_exceptions(run.budget.cases, run.seed)


@exact(tol=1e-12)
def winning_component(run: Run[Budget]) -> float:
    """Difference between an anchored convolution and the winning polyphase component of the dense one, float64."""
    return measures.component_error(run.seed)


def change(run: Run[Budget], model: nn.Module, dtype: torch.dtype = torch.float32, images: int | None = None) -> float:
    """Largest relative change of the logits of test digits under circular shifts."""
    x = padded(digits("test").x[: images or run.budget.images])
    return measures.change(model.to(dtype).eval(), x.to(dtype), 1 if run.dry else run.budget.shifts)


@exact(tol=1e-12, float32=1e-5)
def vit_untrained(run: Run[Budget], dtype: torch.dtype) -> float:
    """ViT, random weights: largest relative change of the logits under circular shifts."""
    torch.manual_seed(run.seed)
    return change(run, transformer("ViT", EQUIVARIANT), dtype)


@exact(tol=1e-12, float32=1e-5)
def twins_untrained(run: Run[Budget], dtype: torch.dtype) -> float:
    """Twins, random weights: largest relative change of the logits under circular shifts."""
    torch.manual_seed(run.seed)
    return change(run, transformer("Twins", EQUIVARIANT), dtype)


def lacking(name: str, words: str, make: Callable[[], nn.Module]) -> Property:
    """The property that a model which lacks one ingredient notices shifts."""

    def noticed(run: Run[Budget]) -> float:
        torch.manual_seed(run.seed)
        return change(run, make(), images=20)

    noticed.__name__ = f"noticed_{name}"
    noticed.__doc__ = f"{words}, random weights: largest relative change of the logits under circular shifts."
    return bound(at_least=1e-3)(noticed)


ABLATIONS = (
    lacking("a_table_of_positions", "ViT with a table of positions", lambda: transformer("ViT", Recipe("table"))),
    lacking("zero_padding", "ViT with zero padding", lambda: transformer("ViT", Recipe(padding="zeros"))),
    lacking(
        "patches_not_anchored",
        "ViT with patches that are not anchored",
        lambda: transformer("ViT", Recipe(anchors=frozenset({"windows", "keys"}))),
    ),
    lacking(
        "windows_not_anchored",
        "Twins with windows that are not anchored",
        lambda: Twins(Recipe(anchors=frozenset({"patches", "keys"})), on_tie="allow"),
    ),
    # Where windows are multiples of the stride of the keys, their anchors do for both; here they are not.
    lacking(
        "keys_not_anchored",
        "Twins with keys that are not anchored",
        lambda: Twins(Recipe(anchors=frozenset({"patches", "windows"})), windows=(2, 2), reduce=(4, 2), on_tie="allow"),
    ),
)
PROPERTIES = (anchor_law, winning_component, vit_untrained, twins_untrained, *ABLATIONS)


# --- digits ----------------------------------------------------------------------------------------------------------
def draw(run: Run[Budget], seed: int) -> Split:
    """The digits of one seed; those of the test also under real shifts and as crops."""
    sizes = run.sizes(run.budget.digits)
    pool, held = digits("train"), digits("test")
    order = torch.randperm(len(pool.x), generator=measures.rng(seed))
    train, spare = order[: sizes.train], order[len(order) - sizes.validation :]
    mine = torch.randperm(len(held.x), generator=measures.rng(seed + 1))[: sizes.test]
    x = padded(held.x[mine])
    tests = {"clean": x, "real shifts": measures.real_shifts(x, 8, seed + 2), "crops": measures.crops(x, 26, seed + 3)}
    return Split((padded(pool.x[train]), pool.y[train]), (padded(pool.x[spare]), pool.y[spare]), (tests, held.y[mine]))


def measure(run: Run[Budget], model: nn.Module, x: dict[str, Tensor], y: Tensor, _: Generator) -> dict[str, Any]:
    """Accuracies in percent, answers under all 1024 shifts, and the largest change of the logits."""
    row: dict[str, Any] = {name: accuracy(model, images, y) for name, images in x.items()}
    clean, orbit = x["clean"], 1 if run.dry else run.budget.orbit
    scores = measures.orbit_scores(model, clean[:orbit], y[:orbit])
    row |= {
        "consistency": measures.percent(scores.same),
        "unmoved": measures.percent(scores.right[0]),
        "all shifts": measures.percent(scores.right),
        "worst shift": scores.worst,
        **{f"distance {d}": scores.at_distance(d) for d in DISTANCES},
        "change of logits": scores.change,
    }
    if getattr(model, "symmetry", None) is None:
        return row
    few = clean[: min(run.budget.audit, orbit)]
    report = audit(model, SYMMETRY, few, y[: len(few)], progress=False)  # all 1024 elements
    double = measures.change(copy.deepcopy(model).double(), clean[:orbit].double(), 16)
    return row | {"change of logits, float64": double, f"audit, {report.certificate}": report.worst_error}


def digits_part(run: Run[Budget]) -> Part:
    """Both families, in four forms each."""
    rivals: dict[str, Rival] = {}
    for family in FAMILIES:
        make = partial(transformer, family)
        rivals |= {
            family: Rival(partial(make, usual(family))),
            f"{family}, augmented": Rival(partial(make, usual(family)), augment(SYMMETRY)),
            f"{family}, not anchored": Rival(partial(make, Recipe(anchors=frozenset()))),
            f"{family}, anchored": Rival(partial(make, EQUIVARIANT)),
        }

    def validate(model: nn.Module, x: Tensor, y: Tensor, _: Generator) -> Mapping[str, float]:
        return {"clean": accuracy(model, x, y)}

    how = Training(
        F.cross_entropy, run.budget.epochs, 16, rates=(3e-3, 1e-3), decay=1e-2, schedule=one_cycle, clip=1.0, widen=1
    )
    table = compare(
        "digits", rivals, partial(draw, run), how, partial(measure, run),
        best="clean", run=run, larger=LARGER, validate=validate,
    )  # fmt: skip
    return table.part(*(claim for family in FAMILIES for claim in family_claims(family, table)))


def family_claims(family: Family, table: Table) -> list[Claim]:
    """Claims about one family."""
    ours, loose, augmented = f"{family}, anchored", f"{family}, not anchored", f"{family}, augmented"
    slug = family.lower()

    def kept(name: str, text: str, values: Any, tol: float, published: str | None = None) -> Claim:
        return table.same(f"{slug}-{name}", f"{ours}: {text}", values, 0.0, tol=tol, published=published)

    def gain(
        name: str, rival: str, column: str, words: str, at_least: float = 0.0, published: str | None = None
    ) -> Claim:
        gained = table[ours, column] - table[rival, column]
        text = f"{family}: points of accuracy {words}, anchored form minus {FORMS[rival.removeprefix(family)]}."
        return table.bound(f"{slug}-{name}", text, gained, at_least=at_least, published=published)

    worst = "(right under every circular shift)"
    return [
        kept(
            "consistency",
            "percent of answers that change under any circular shift.",
            100 - table[ours, "consistency"],
            0,
            "0 (100 % consistency)",
        ),
        kept(
            "trained-float32",
            "largest relative change of the trained logits under all circular shifts, float32.",
            table[ours, "change of logits"],
            1e-5,
        ),
        kept(
            "trained-float64",
            "largest relative change of the trained logits under circular shifts, float64.",
            table[ours, "change of logits, float64"],
            1e-12,
        ),
        gain("clean-kept", family, "clean", "on digits in place", -1.5),
        gain("beats-augmentation", augmented, "worst shift", worst),
        gain("anchors-needed", loose, "worst shift", worst),
        gain("real-shifts", family, "real shifts", "under real shifts by up to 8 pixels"),
        gain("crops", family, "crops", "on random crops", published="robust to crops"),
        table.bound(
            f"{slug}-usual-loses",
            f"{family}: points of accuracy that the usual form loses from unmoved to right under every circular shift.",
            table[family, "unmoved"] - table[family, "worst shift"],
            at_least=20,
            published="about 20, under shifts by a few pixels",
        ),
    ]


# --- time ------------------------------------------------------------------------------------------------------------
def cost_part(run: Run[Budget]) -> Part:
    """Milliseconds for each image of a batch of 64, all models in turns."""
    forms = {"usual": usual, "not anchored": lambda _: Recipe(anchors=frozenset()), "anchored": lambda _: EQUIVARIANT}
    models = {f"{f}, {name}": transformer(f, form(f)).eval() for f in FAMILIES for name, form in forms.items()}
    x = padded(digits("test").x[:64])

    @lru_cache
    def times(seed: int) -> dict[str, float]:
        """Of every seed once: the models take turns."""
        del seed
        return dict(zip(models, measures.milliseconds(list(models.values()), x, run.budget.rounds), strict=True))

    def method(name: str, seed: int) -> dict[str, float]:
        return {"ms per image": times(seed)[name]}

    table = sweep("cost", {name: partial(method, name) for name in models}, run=run)
    return table.part(
        *(
            table.not_worse(
                f"{family.lower()}-overhead", f"{family}, anchored", f"{family}, not anchored", "ms per image", margin=0.6,
                statement=f"{family}: time for an image of the anchored form over that without anchors.",
            )
            for family in FAMILIES
        )
    )  # fmt: skip


# --- all -------------------------------------------------------------------------------------------------------------
def experiment(run: Run[Budget]) -> Result:
    """Properties, digits and cost."""
    unmeasured = Claim.not_measurable(
        "published-imagenet",
        "Top-1 accuracy of Twins on ImageNet, as it is and under the worst of small shifts.",
        published="80.57 and 62.40",
        reason="needs ImageNet and a model trained on it; the same comparison on digits is above",
    )
    return Result.of(properties(run, *PROPERTIES), digits_part(run), cost_part(run), Part(claims=[unmeasured]))


def figure(result: Result) -> plots.Figure:
    """Accuracy unmoved, over all circular shifts, and under the worst shift of each image, by model."""
    rows = [row for row in result.rows if row["part"] == "digits"]
    columns = {"unmoved": "unmoved", "all shifts": "mean over all shifts", "worst shift": "right under every shift"}
    series = {label: [row[column] / 100 for row in rows] for column, label in columns.items()}
    return plots.barh(series, [row["model"] for row in rows], "accuracy", percent=True)
