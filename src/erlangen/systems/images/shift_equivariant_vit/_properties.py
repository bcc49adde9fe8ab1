"""The models that are compared, and what holds of them exactly: the law of the anchor, invariance, what breaks it, ties."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from erlangen.data import digits
from erlangen.survey import Property, Run, bound, exact
from erlangen.systems.images.shift_equivariant_vit import _measures as measures
from erlangen.systems.images.shift_equivariant_vit.method import EQUIVARIANT, Recipe, Twins, VisionTransformer

Family = Literal["ViT", "Twins"]
FAMILIES: tuple[Family, ...] = ("ViT", "Twins")


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
def anchor_law(run: Run[Any]) -> float:
    """Maps for which the anchor of a shifted map is not the anchored map moved by a multiple of the stride, bit by bit."""
    return measures.law_exceptions(run.budget.cases, run.seed)


@exact(tol=1e-12)
def winning_component(run: Run[Any]) -> float:
    """Difference between an anchored convolution and the winning polyphase component of the dense one, float64."""
    return measures.component_error(run.seed)


def change(
    run: Run[Any],
    model: nn.Module,
    dtype: torch.dtype = torch.float32,
    images: int | None = None,
    *,
    two_greys: bool = False,
) -> float:
    """Largest relative change of the logits of test digits under circular shifts."""
    x = padded(digits("test").x[: images or run.budget.images])
    x = measures.binary(x) if two_greys else x
    return measures.change(model.to(dtype).eval(), x.to(dtype), 1 if run.dry else run.budget.shifts)


@exact(tol=1e-12, float32=1e-5)
def vit_untrained(run: Run[Any], dtype: torch.dtype) -> float:
    """ViT, random weights: largest relative change of the logits under circular shifts."""
    torch.manual_seed(run.seed)
    return change(run, transformer("ViT", EQUIVARIANT), dtype)


@exact(tol=1e-12, float32=1e-5)
def twins_untrained(run: Run[Any], dtype: torch.dtype) -> float:
    """Twins, random weights: largest relative change of the logits under circular shifts."""
    torch.manual_seed(run.seed)
    return change(run, transformer("Twins", EQUIVARIANT), dtype)


@exact(tol=1e-12, float32=1e-5)
def vit_binary(run: Run[Any], dtype: torch.dtype) -> float:
    """ViT, random weights, digits of two grey levels: largest relative change of the logits under circular shifts."""
    torch.manual_seed(run.seed)
    return change(run, transformer("ViT", EQUIVARIANT), dtype, two_greys=True)


@exact(tol=1e-12, float32=1e-5)
def twins_binary(run: Run[Any], dtype: torch.dtype) -> float:
    """Twins, random weights, digits of two grey levels: largest relative change of the logits under circular shifts."""
    torch.manual_seed(run.seed)
    return change(run, transformer("Twins", EQUIVARIANT), dtype, two_greys=True)


@exact(tol=0)
def warned_of_ties(run: Run[Any]) -> float:
    """ViT: digits of two grey levels of which it warns that nothing tells their components apart, and blanks without warning."""
    torch.manual_seed(run.seed)
    model = transformer("ViT", EQUIVARIANT).eval()
    x = measures.binary(padded(digits("test").x[: 4 if run.dry else run.budget.images]))
    needless = sum(measures.warns(model, one) for one in x.split(1))
    return needless + sum(not measures.warns(model, torch.full((1, 1, 32, 32), grey)) for grey in (0.0, 1.0))


def lacking(name: str, words: str, make: Callable[[], nn.Module]) -> Property:
    """The property that a model which lacks one ingredient notices shifts."""

    def noticed(run: Run[Any]) -> float:
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
PROPERTIES = (
    anchor_law,
    winning_component,
    vit_untrained,
    twins_untrained,
    vit_binary,
    twins_binary,
    warned_of_ties,
    *ABLATIONS,
)
