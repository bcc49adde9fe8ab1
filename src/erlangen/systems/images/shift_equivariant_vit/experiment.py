"""What is measured of anchored transformers: the law of the anchor, digits and characters that move, and time."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from erlangen import plots
from erlangen.data import digits, glyphs
from erlangen.measure import accuracy, audit
from erlangen.soft import augment
from erlangen.survey import (
    Claim,
    Part,
    Result,
    Rival,
    Run,
    Sizes,
    Split,
    Table,
    Training,
    compare,
    properties,
    sweep,
)
from erlangen.symmetry import Symmetry
from erlangen.systems.images.shift_equivariant_vit import _measures as measures
from erlangen.systems.images.shift_equivariant_vit._properties import (
    FAMILIES,
    PROPERTIES,
    Family,
    padded,
    transformer,
    usual,
)
from erlangen.systems.images.shift_equivariant_vit.method import EQUIVARIANT, Recipe
from erlangen.training import one_cycle

LETTERS = "ABCDEFGHIJ"
DISTANCES = (1, 2, 4, 8, 16)
LARGER = ("clean", "shifts", "worst", "real shifts", "crops", "flips", "affine", "consistency")
"""Columns that are better when they are larger."""
FORMS = {
    "": "the usual form",
    ", augmented": "the usual form trained with random circular shifts for as many epochs",
    ", not anchored": "the form without anchors",
}
"""What statements call the rivals of the anchored form."""
PUBLISHED_LOSS = {"ViT": 20.0, "Twins": 80.57 - 62.40}
"""Points of accuracy that the usual forms lose when pictures move by a few pixels: the average of all, and of Twins."""
SYMMETRY = Symmetry(measures.GROUP, input="image", output="invariant")


@dataclass(frozen=True)
class Spent:
    """What one table trains on."""

    sizes: Sizes
    epochs: int
    batch: int


@dataclass(frozen=True)
class Budget:
    """What a run spends.

    Attributes:
        vit, twins, characters: pictures and epochs of the three tables.
        orbit, near, audit: test pictures under all shifts, under all shifts by a few pixels, in an audit.
        cases, images, shifts: of the properties.
        rounds: of the timing.
    """

    seeds: int
    vit: Spent
    twins: Spent
    characters: Spent
    orbit: int
    near: int
    audit: int
    cases: int
    images: int
    shifts: int
    rounds: int


BUDGETS = {
    "smoke": Budget(
        1,
        Spent(Sizes(64, 20, 40), 1, 16),
        Spent(Sizes(64, 20, 40), 1, 16),
        Spent(Sizes(40, 10, 20), 1, 16),
        1,
        1,
        1,
        cases=100,
        images=20,
        shifts=2,
        rounds=3,
    ),
    "full": Budget(
        3,
        Spent(Sizes(2000, 500, 600), 10, 32),
        Spent(Sizes(7500, 500, 600), 10, 64),
        Spent(Sizes(500, 300, 600), 10, 16),
        8,
        48,
        4,
        cases=1000,
        images=200,
        shifts=16,
        rounds=15,
    ),
    "paper": Budget(
        5,
        Spent(Sizes(7500, 500, 2000), 300, 128),
        Spent(Sizes(7500, 500, 2000), 300, 128),
        Spent(Sizes(7500, 500, 2000), 300, 128),
        200,
        500,
        100,
        cases=1000,
        images=200,
        shifts=1024,
        rounds=15,
    ),
}


# --- pictures --------------------------------------------------------------------------------------------------------
def moved(x: Tensor, seed: int) -> dict[str, Tensor]:
    """Test pictures in place and moved in every way that accuracy is measured under."""
    return {
        "clean": x,
        **{f"shifts by {d}": measures.shifted(x, d, d, seed + 10 + d) for d in DISTANCES},
        "shifts by 1 to 4": measures.shifted(x, 1, 4, seed + 10),
        "real shifts": measures.real_shifts(x, 8, seed + 2),
        "crops": measures.crops(x, 26, seed + 3),
        "flips": x.flip(-1),
        "affine": measures.affine(x, seed + 4),
    }


def draw_digits(run: Run[Budget], spent: Spent, seed: int) -> Split:
    """The digits of one seed."""
    sizes = run.sizes(spent.sizes)
    pool, held = digits("train"), digits("test")
    order = torch.randperm(len(pool.x), generator=measures.rng(seed))
    train, spare = order[: sizes.train], order[len(order) - sizes.validation :]
    mine = torch.randperm(len(held.x), generator=measures.rng(seed + 1))[: sizes.test]
    return Split(
        (padded(pool.x[train]), pool.y[train]),
        (padded(pool.x[spare]), pool.y[spare]),
        (moved(padded(held.x[mine]), seed), held.y[mine]),
    )


def draw_characters(run: Run[Budget], spent: Spent, seed: int) -> Split:
    """Capital letters rendered from fonts; new ones for each seed."""
    sizes = run.sizes(spent.sizes)
    drawn = glyphs(
        LETTERS, -(-sizes.total // len(LETTERS)), size=measures.SIZE, noise=0.0, generator=measures.rng(seed)
    )
    order = torch.randperm(len(drawn.y), generator=measures.rng(seed + 1))
    train, validation, test = Split.of(drawn.x[order] / 0.31, drawn.y[order], sizes)
    x, y = test
    assert isinstance(x, Tensor)
    return Split(train, validation, (moved(x, seed), y))


# --- training --------------------------------------------------------------------------------------------------------
def measure(run: Run[Budget], model: nn.Module, x: dict[str, Tensor], y: Tensor, _: Generator) -> dict[str, Any]:
    """Accuracies in percent, answers under all 1024 shifts, and the largest change of the logits."""
    row: dict[str, Any] = {name: accuracy(model, pictures, y) for name, pictures in x.items()}
    clean, orbit, near = x["clean"], run.budget.orbit, run.budget.near
    if run.dry:
        orbit = near = 1
    scores = measures.orbit_scores(model, clean[:orbit], y[:orbit])
    close = measures.orbit_scores(model, clean[:near], y[:near], measures.within(4))
    row |= {
        "worst of shifts up to 4": close.worst,
        "consistency": measures.percent(scores.same),
        "change of logits": scores.change,
        "answers that change, binary": measures.changing(model, measures.binary(clean[:near]), 16),
    }
    if getattr(model, "symmetry", None) is None:
        return row
    few = clean[: min(run.budget.audit, orbit)]
    report = audit(model, SYMMETRY, few, y[: len(few)], progress=False)  # all 1024 elements
    double = measures.change(copy.deepcopy(model).double(), clean[:orbit].double(), 16)
    return row | {"change of logits, float64": double, f"audit, {report.certificate}": report.worst_error}


def validate(model: nn.Module, x: Tensor, y: Tensor, _: Generator) -> Mapping[str, float]:
    """Accuracy, which chooses rates."""
    return {"clean": accuracy(model, x, y)}


def table_of(
    run: Run[Budget], name: str, family: Family, spent: Spent, draw: Callable[[Run[Budget], Spent, int], Split]
) -> Table:
    """One family in four forms."""
    make = partial(transformer, family)
    rivals = {
        family: Rival(partial(make, usual(family))),
        f"{family}, augmented": Rival(partial(make, usual(family)), augment(SYMMETRY)),
        f"{family}, not anchored": Rival(partial(make, Recipe(anchors=frozenset()))),
        f"{family}, anchored": Rival(partial(make, EQUIVARIANT)),
    }
    how = Training(
        F.cross_entropy,
        spent.epochs,
        spent.batch,
        rates=(3e-3, 1e-3),
        decay=1e-2,
        schedule=one_cycle,
        clip=1.0,
        widen=1,
    )
    return compare(
        name,
        rivals,
        partial(draw, run, spent),
        how,
        partial(measure, run),
        best="clean",
        run=run,
        larger=LARGER,
        validate=validate,
    )


def digits_part(run: Run[Budget], family: Family) -> Part:
    """Digits: one family in four forms."""
    spent = run.budget.vit if family == "ViT" else run.budget.twins
    table = table_of(run, f"digits, {family}", family, spent, draw_digits)
    lost = table.bound(
        f"{family.lower()}-usual-loses",
        f"{family}: points of accuracy on digits that the usual form loses under circular shifts by 1 to 4 pixels.",
        table[family, "clean"] - table[family, "shifts by 1 to 4"],
        at_least=PUBLISHED_LOSS[family],
        published=PUBLISHED_LOSS[family],
    )
    return table.part(*form_claims(table, family.lower(), family), *motion_claims(table, family), lost)


def characters_part(run: Run[Budget]) -> Part:
    """Held out: letters, on which nothing was chosen but the rates, on letters of their own."""
    table = table_of(run, "letters, ViT", "ViT", run.budget.characters, draw_characters)
    return table.part(*form_claims(table, "letters", "ViT"))


def titled(table: Table) -> str:
    """The name of a table at the start of a sentence."""
    return table.name[0].upper() + table.name[1:]


def gain(
    table: Table, name: str, family: Family, form: str, column: str, words: str, published: str | None = None
) -> Claim:
    """That the anchored form has at least the accuracy of another one."""
    gained = table[f"{family}, anchored", column] - table[family + form, column]
    text = f"{titled(table)}: points of accuracy {words}, anchored form minus {FORMS[form]}."
    return table.bound(name, text, gained, at_least=0, published=published)


def form_claims(table: Table, slug: str, family: Family) -> list[Claim]:
    """Claims of all tables: what shifts do to the anchored form, and to it beside the others."""
    ours = f"{family}, anchored"

    def kept(name: str, text: str, values: Any, tol: float, published: str | None = None) -> Claim:
        words = f"{titled(table)}, anchored form: {text}"
        return table.same(f"{slug}-{name}", words, values, 0.0, tol=tol, published=published)

    near, worst = "under circular shifts by 1 to 4 pixels", "(right under every circular shift by up to 4 pixels)"
    return [
        kept(
            "consistency",
            "percent of answers that change under any circular shift.",
            100 - table[ours, "consistency"],
            0,
            "0 (100 % consistency)",
        ),
        kept(
            "binary-consistency",
            "percent of answers to pictures of two grey levels that change under 16 circular shifts.",
            table[ours, "answers that change, binary"],
            0,
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
        gain(table, f"{slug}-clean-kept", family, "", "clean", "in place"),
        gain(table, f"{slug}-few-pixels", family, "", "shifts by 1 to 4", near),
        gain(table, f"{slug}-few-pixels-augmented", family, ", augmented", "shifts by 1 to 4", near),
        gain(table, f"{slug}-beats-augmentation", family, ", augmented", "worst of shifts up to 4", worst),
        gain(table, f"{slug}-anchors-needed", family, ", not anchored", "worst of shifts up to 4", worst),
    ]


def motion_claims(table: Table, family: Family) -> list[Claim]:
    """Claims about motions that are no circular shifts."""
    slug = family.lower()
    motions = {
        "real shifts": ("real-shifts", "under real shifts by up to 8 pixels", None),
        "crops": ("crops", "on random crops", "robust to crops"),
        "flips": ("flips", "on mirror images", "robust to flips"),
        "affine": ("affine", "under affine maps about the middle", "robust to affine maps"),
    }
    return [
        gain(table, f"{slug}-{name}", family, "", column, words, published)
        for column, (name, words, published) in motions.items()
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
                f"{family.lower()}-overhead", f"{family}, anchored", f"{family}, not anchored", "ms per image",
                statement=f"{family}: time for an image of the anchored form over that without anchors.",
            )
            for family in FAMILIES
        )
    )  # fmt: skip


# --- all -------------------------------------------------------------------------------------------------------------
def experiment(run: Run[Budget]) -> Result:
    """Properties, digits, letters and cost."""
    unmeasured = Claim.not_measurable(
        "published-imagenet",
        "Top-1 accuracy of Twins on ImageNet, as it is and moved by a few pixels.",
        published="80.57 and 62.40",
        reason="needs ImageNet and a model trained on it; the same comparison on digits is above",
    )
    return Result.of(
        properties(run, *PROPERTIES),
        *(digits_part(run, family) for family in FAMILIES),
        characters_part(run),
        cost_part(run),
        Part(claims=[unmeasured]),
    )


def figure(result: Result) -> plots.Figure:
    """Accuracy in place, under shifts by a few pixels, and under the worst of these for each picture, by model."""
    rows = [row for row in result.rows if str(row["part"]).startswith(("digits", "letters"))]
    columns = {
        "clean": "in place",
        "shifts by 1 to 4": "shifted by 1 to 4 pixels",
        "worst of shifts up to 4": "right under all of these",
    }
    series = {label: [float(str(row[column])) / 100 for row in rows] for column, label in columns.items()}
    names = [f"{row['model']} ({str(row['part']).split(',')[0]})" for row in rows]
    return plots.barh(series, names, "accuracy", percent=True)
