"""Sessions of trials: rhythms mixed at electrodes, and the real ones of MAMEM SSVEP II."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

import torch
from torch import Generator, Tensor

from erlangen.data import electrode_trials
from erlangen.errors import DataError, UnknownNameError
from erlangen.simulate import mixing, rhythms
from erlangen.survey import Sizes, Split

CLASSES = 5
CHANNELS = 8
SESSION = 100
"""Trials of a session, as in the recordings."""

Weak = Literal["sources", "noise"]
"""What the directions hold in which electrodes vary little."""


def simulated(seed: int, condition: float, sizes: Sizes, *, weak: Weak = "sources", samples: int = 125) -> Split:
    """Covariances ``[N, 8, 8]`` of the trials of one subject in sessions of 100, at most one of them in two parts.

    Autoregressive sources swing at frequencies and with amplitudes that depend on the class, and a little on the trial.

    Weak "sources": eight sources, and a matrix that mixes them has the condition number that makes the one of covariances
    `condition`; every session has another, near to that of the subject. Its largest singular value is one. Weak directions
    have as much of the class as strong ones.

    Weak "noise": four sources reach the electrodes along orthonormal directions, near to which those of every session are, and
    electrodes have independent noise, so weak that covariances have `condition`. Weak directions have nothing of the class, and
    are not the same in two sessions.

    Args:
        seed: of the subject.
        condition: of covariances, about: sources differ in their amplitudes, too.
        sizes: trials that train, validate and test; sessions are not shared.
        weak: see above.
        samples: of a trial.

    Raises:
        UnknownNameError: there is no such kind of weak directions.
    """
    if weak not in get_args(Weak):
        raise UnknownNameError(f"weak = {weak!r}; there are {', '.join(get_args(Weak))}")
    g = Generator().manual_seed(seed)
    sources = CHANNELS if weak == "sources" else CHANNELS // 2
    frequency = 0.05 + 0.35 * torch.rand(CLASSES, sources, generator=g, dtype=torch.float64)
    loudness = 0.3 * torch.randn(CLASSES, sources, generator=g, dtype=torch.float64)
    if weak == "sources":
        base = mixing(CHANNELS, condition**0.5, generator=g) / condition**0.25
    else:
        base = mixing(CHANNELS, 1.0, generator=g)[:, :sources]
    parts: list[tuple[Tensor, Tensor]] = []
    for count in sizes:
        found: list[tuple[Tensor, Tensor]] = []
        for begin in range(0, count, SESSION):
            y = torch.arange(min(SESSION, count - begin)) % CLASSES
            own = frequency[y] + 0.01 * torch.randn(len(y), sources, generator=g, dtype=torch.float64)
            level = loudness[y] + 0.25 * torch.randn(len(y), sources, generator=g, dtype=torch.float64)
            x = level.exp()[:, :, None] * rhythms(own.clamp(0, 0.5), samples, damping=0.8, generator=g)
            other = torch.eye(CHANNELS) + 0.1 * torch.randn(CHANNELS, CHANNELS, generator=g, dtype=torch.float64)
            x = base @ other @ x if weak == "sources" else other @ base @ x
            if weak == "noise":
                x = x + condition**-0.5 * torch.randn(x.shape, generator=g, dtype=torch.float64)
            x = x - x.mean(-1, keepdim=True)
            S = x @ x.mT / (samples - 1)
            found.append(((S + S.mT) / 2, y))
        parts.append(tuple(torch.cat(column) for column in zip(*found, strict=True)))  # type: ignore[arg-type]
    return Split(*parts)


def recorded(folder: str | Path, subject: int, sizes: Sizes) -> Split:
    """Trials ``[N, 8, 125]`` of one subject from a folder of MAMEM: sessions one to three train, four validates, five tests.

    With sizes of (300, 100, 100) these are the sessions as they are.

    Raises:
        DataError: the file is missing, or has too few trials.
    """
    x, y = electrode_trials(Path(folder) / f"subject{subject:02d}.npz")
    if len(x) < max(sizes.train, 300 + sizes.validation, 400 + sizes.test):
        raise DataError(f"subject {subject} of {folder} has {len(x)} trials; give five sessions of 100")
    starts = zip((0, 300, 400), sizes, strict=True)
    return Split(*((x[begin : begin + size], y[begin : begin + size]) for begin, size in starts))
