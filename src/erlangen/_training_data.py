"""What `erlangen.fit` is given, as trees of tensors, and how the model is called with them."""

from __future__ import annotations

from typing import Any

from torch import nn

from erlangen.actions import Tree
from erlangen.errors import DataError, ModelError
from erlangen.measure.bring import read_pairs
from erlangen.measure.calls import invoke
from erlangen.measure.models import Model
from erlangen.measure.padding import takes_mask
from erlangen.measure.samples import Padded


def read_training(model: nn.Module, x: Any, y: Any, validation: Any) -> tuple[Tree, Tree, tuple[Tree, Tree] | None]:
    """Training and validation data as trees of tensors, in the dtype of the model where they were none."""
    dtype = Model(model).dtype
    x, y = read_pairs(x, y, dtype=dtype)
    pairs = [("x", x, y)]
    if validation is not None:
        pair = validation if isinstance(validation, (tuple, list)) and len(validation) == 2 else (validation, None)  # pyright: ignore[reportUnknownArgumentType]
        pairs.append(("validation", *read_pairs(*pair, dtype=dtype)))  # pyright: ignore[reportUnknownArgumentType]
    for name, inputs, targets in pairs:
        if targets is None:
            raise DataError(f"{name} comes without targets; pass y, or a loader of pairs (x, y)")
        if isinstance(inputs, Padded) and not takes_mask(model):
            raise ModelError(
                f"{name} has samples of different size, which are padded; give {type(model).__name__}.forward an argument "
                "mask, bool [B, N], the rows that exist"
            )
    return x, y, None if validation is None else (pairs[1][1], pairs[1][2])


def forward(module: Any, model: nn.Module, x: Tree) -> Any:
    """The answer of a module, which may wrap the model: as many arguments as the model takes, and the mask of padded data."""
    if isinstance(x, Padded):
        return invoke(module, x.x, like=model, mask=x.mask)
    return invoke(module, x, like=model)
