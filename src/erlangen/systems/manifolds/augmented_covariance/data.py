"""Trials of two classes in two sessions: rhythms mixed at electrodes; and the recorded ones of MAMEM SSVEP II."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from erlangen.data import electrode_trials
from erlangen.errors import DataError, UnknownNameError
from erlangen.simulate import mixing, rhythms
from erlangen.survey import Sizes

Floats = NDArray[np.floating[Any]]
Task = Literal["amplitudes", "frequencies", "both"]

STIMULI = (6.66, 7.50, 8.57, 10.00, 12.00)
"""Frequencies of MAMEM SSVEP II in Hz, in the order of its classes."""
RATE = 125.0
"""Its samples per second, as the files have them."""


Labelled = tuple[Floats, NDArray[np.int64]]
"""Signals ``[trials, channels, samples]`` and their classes."""


class Trials(NamedTuple):
    """What trains, and what tests by the name of the evaluation: "within sessions", "across sessions"."""

    train: Labelled
    tests: dict[str, Labelled]


def simulated(task: Task, seed: int, sizes: Sizes, *, channels: int = 6, samples: int = 400) -> Trials:
    """One subject: rhythms at six electrodes, of which two depend on the class, as those of two hands do.

    Of the first two sources one is louder by exp(0.15), or faster by 0.006 cycles a sample, and the other one softer, or slower;
    with the other class it is the other way round. All amplitudes and frequencies vary from trial to trial. Sources have the
    variance one, so that frequencies alone leave covariances as they are.

    Args:
        task: what depends on the class.
        seed: of the subject.
        sizes: trials that train and test, in the session that trains and again in another one, whose mixing matrix is near.
        channels, samples: of a trial.
    """
    if task not in get_args(Task):
        raise UnknownNameError(f"task = {task!r}; there are {', '.join(get_args(Task))}")
    g = Generator().manual_seed(seed)
    frequency = 0.05 + 0.15 * torch.rand(channels, generator=g, dtype=torch.float64)
    base = mixing(channels, 10.0, generator=g)

    def session(other: Tensor, count: int) -> Labelled:
        y = torch.arange(count) % 2
        sign = torch.zeros(count, channels, dtype=torch.float64)
        sign[:, 0], sign[:, 1] = 2.0 * y - 1, 1 - 2.0 * y
        noise = [torch.randn(count, channels, generator=g, dtype=torch.float64) for _ in range(2)]
        f = frequency + 0.01 * noise[0] + (0.006 * sign if task != "amplitudes" else 0)
        level = 0.3 * noise[1] + (0.15 * sign if task != "frequencies" else 0)
        x = level.exp()[:, :, None] * rhythms(f.clamp(0, 0.5), samples, damping=0.9, generator=g)
        return (base @ other @ x).numpy(), y.numpy()

    eye = torch.eye(channels, dtype=torch.float64)
    other = eye + 0.1 * torch.randn(channels, channels, generator=g, dtype=torch.float64)
    tests = {"within sessions": session(eye, sizes.test), "across sessions": session(other, sizes.test)}
    return Trials(session(eye, sizes.train), tests)


def recorded(folder: str | Path, subject: int) -> Trials:
    """Trials ``[N, 8, 125]`` of one subject of MAMEM: sessions one to three train, five tests.

    Raises:
        DataError: the file is missing, or has other than five sessions of 100 trials.
    """
    x, y = electrode_trials(Path(folder) / f"subject{subject:02d}.npz")
    if len(x) != 500:
        raise DataError(f"subject {subject} of {folder} has {len(x)} trials; give five sessions of 100")
    first, last = ((x[part].double().numpy(), y[part].numpy()) for part in (slice(300), slice(400, None)))
    return Trials(first, {"across sessions": last})


def shuffled(trials: Trials, seed: int) -> Trials:
    """The samples of every trial in another order of its own: plain covariances stay, the rest is lost."""
    rng = np.random.default_rng(seed)

    def mixed(labelled: Labelled) -> Labelled:
        x, y = labelled
        return np.stack([trial[:, rng.permutation(trial.shape[1])] for trial in x]), y

    return Trials(mixed(trials.train), {name: mixed(test) for name, test in trials.tests.items()})


def filtered(x: Floats, frequencies: tuple[float, ...] = STIMULI, *, rate: float = RATE, width: float = 0.6) -> Floats:
    """Signals in a band around every frequency, one below the other ``[trials, bands C, samples]``, by Gaussian windows in Hz."""
    at = np.fft.rfftfreq(x.shape[-1], 1 / rate)
    spectrum = np.fft.rfft(x - x.mean(-1, keepdims=True))
    bands = [np.exp(-0.5 * ((at - f) / width) ** 2) for f in frequencies]
    return np.concatenate([np.fft.irfft(spectrum * band, n=x.shape[-1]) for band in bands], axis=1)


def reference(frequency: float, samples: int, *, rate: float = RATE, harmonics: int = 2) -> Floats:
    """Sines and cosines of a frequency and its harmonics ``[2 harmonics, samples]``."""
    t = 2 * np.pi * np.arange(samples) / rate
    return np.concatenate([[np.sin(k * frequency * t), np.cos(k * frequency * t)] for k in range(1, harmonics + 1)])
