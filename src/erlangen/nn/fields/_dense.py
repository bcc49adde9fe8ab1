"""Small parts of networks of fields: dense layers as flax starts them, and the feed-forward block of attention."""

from __future__ import annotations

import math

from torch import nn

from erlangen.errors import ErlangenError

EPS = 1e-6
"""Of layer norms."""


def check_positive(name: str, value: float) -> None:
    """Raise unless a number is positive and finite; name it."""
    if not (value > 0 and math.isfinite(value)):
        raise ErlangenError(f"{name} = {value!r}: give a positive number")


def dense(in_features: int, out_features: int) -> nn.Linear:
    """A linear layer with LeCun's normal weights, cut at two deviations, and no bias at the start."""
    layer = nn.Linear(in_features, out_features)
    # 0.8796 is the deviation of a standard normal number that is cut at two: what is left has variance 1 / fan_in.
    std = in_features**-0.5 / 0.87962566103423978
    nn.init.trunc_normal_(layer.weight, std=std, a=-2 * std, b=2 * std)
    nn.init.zeros_(layer.bias)
    return layer


def gelu() -> nn.Module:
    """The GELU in its tanh form."""
    return nn.GELU(approximate="tanh")


def feed_forward(in_features: int, hidden: int, out_features: int) -> nn.Sequential:
    """Linear, GELU, layer norm, linear: the norm stands behind the activation."""
    return nn.Sequential(dense(in_features, hidden), gelu(), nn.LayerNorm(hidden, eps=EPS), dense(hidden, out_features))
