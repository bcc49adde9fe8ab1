"""MDOP: order and lag from the signals alone, by maximising derivatives on projection (Nichkawde 2013)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]

MOST_DELAY, MOST_ORDER = 50, 20
"""Largest delay in samples, and of delays: beyond, a signal is taken as noise."""


def mdop_choice(X: Floats, *, ratio: float = 2.0, threshold: float = 0.05) -> tuple[int, int]:
    """Order and lag of trials ``X [trials, channels, samples]``.

    For every trial coordinates of an embedding are chosen one after the other, among all channels and delays; their number, the
    first one included, is its order, and their mean delay, rounded, its lag. Both are averaged over trials, and rounded; the
    order is at most one that leaves half of the samples.

    Args:
        X: the signals.
        ratio: by which the distance to a nearest neighbour grows with a further coordinate, for it to be a false one.
        threshold: share of false neighbours below which an embedding is complete.
    """
    found = [delays(trial, ratio=ratio, threshold=threshold) for trial in np.asarray(X, dtype=float)]
    order = round(float(np.mean([len(chosen) for chosen in found])))
    lag = round(float(np.mean([round(float(np.mean([delay for _, delay in chosen]))) for chosen in found])))
    lag = max(lag, 1)
    return min(max(order, 1), 1 + X.shape[-1] // 2 // lag), lag


def delays(x: Floats, *, ratio: float = 2.0, threshold: float = 0.05) -> list[tuple[int, int]]:
    """Channels and delays of one trial ``[channels, samples]``, the undelayed first channel first.

    The next coordinate is the one that separates nearest neighbours of the present embedding most: the largest geometric mean of
    |difference in it| / |distance|. It ends when fewer than `threshold` of the neighbours are false (Kennel, Brown and Abarbanel
    1992) in the coordinate that comes next.
    """
    samples = x.shape[1]
    span = min(MOST_DELAY, samples // 3)
    x = (x - x.mean(1, keepdims=True)) / x.std(1, keepdims=True)
    window = max(first_minimum(row, span) for row in x)
    # Every coordinate at once: x_c(t - delay) for t = span, span + 1, ...
    shifted = np.stack([x[:, span - k : samples - k] for k in range(span + 1)], 1)  # [channels, delays, time]
    count = shifted.shape[-1]
    near = np.abs(np.subtract.outer(np.arange(count), np.arange(count))) <= min(window, count // 4)
    chosen: list[tuple[int, int]] = [(0, 0)]
    squared = np.square(np.subtract.outer(shifted[0, 0], shifted[0, 0]))
    while len(chosen) < MOST_ORDER:
        masked = np.where(near, np.inf, squared)
        neighbour = masked.argmin(1)
        distance = np.sqrt(masked[np.arange(count), neighbour])
        apart = np.abs(shifted - shifted[:, :, neighbour])
        usable = distance > 0
        with np.errstate(divide="ignore"):
            slopes = np.log(apart[:, :, usable] / distance[usable]).clip(min=-50).mean(-1)
        for channel, delay in chosen:
            slopes[channel, delay] = -np.inf
        channel, delay = (int(k) for k in np.unravel_index(slopes.argmax(), slopes.shape))
        false = float(np.mean(apart[channel, delay, usable] / distance[usable] > ratio))
        if false < threshold:
            break
        chosen.append((channel, delay))
        squared = squared + np.square(np.subtract.outer(shifted[channel, delay], shifted[channel, delay]))
    return chosen


def first_minimum(row: Floats, span: int, bins: int = 8) -> int:
    """The first delay at which the mutual information of a signal and its past has a minimum; the span where there is none."""
    edges = np.quantile(row, np.linspace(0, 1, bins + 1)[1:-1])
    states = np.searchsorted(edges, row)
    values = [_information(states[k:], states[: len(states) - k], bins) for k in range(span + 1)]
    return next((k for k in range(1, span) if values[k] < values[k - 1] and values[k] <= values[k + 1]), span)


def _information(a: Any, b: Any, bins: int) -> float:
    joint = np.bincount(a * bins + b, minlength=bins * bins).reshape(bins, bins) / len(a)
    product = joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)
    seen = joint > 0
    return float((joint[seen] * np.log(joint[seen] / product[seen])).sum())
