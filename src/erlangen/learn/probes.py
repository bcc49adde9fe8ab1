"""Probes: what a small head reads from the features of a network that stays as it is."""

from __future__ import annotations

import itertools
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss

from erlangen.actions import Tree, tree_map
from erlangen.errors import DataError, ShapeError, UnknownNameError, check_floating, check_sizes
from erlangen.measure.checks import batch_length
from erlangen.measure.scores import accuracy, r_squared
from erlangen.training import fit

Head = Literal["linear", "mlp"]


@dataclass(frozen=True)
class ProbeResult:
    """What `probe` found on the test rows.

    Attributes:
        score: per cent of right answers for labels, R^2 for numbers.
        trivial: the score of one answer for all rows: the most frequent label, or the mean, of the training rows.
        components: R^2 of each component of the targets, None for labels.
        head: the trained head.
    """

    score: float
    trivial: float
    components: tuple[float, ...] | None
    head: nn.Module


@torch.no_grad()
def frozen_features(model: nn.Module, x: Tree, *, batch_size: int = 256) -> Tensor:
    """Features ``[N, d]`` of a batch, in eval mode and without gradient; the model, its modes and its buffers stay.

    >>> model = torch.nn.Sequential(torch.nn.BatchNorm1d(2), torch.nn.Flatten())
    >>> before = model[0].running_mean.clone()
    >>> frozen_features(model, torch.ones(5, 2)).shape, torch.equal(model[0].running_mean, before), model.training
    (torch.Size([5, 2]), True, True)

    Args:
        model: takes x, gives ``[N, ...]``, of which the trailing axes are flattened.
        x: a tree of tensors ``[N, ...]``.
        batch_size: rows at a time.

    Raises:
        ErlangenError: a size that is not positive.
    """
    check_sizes(batch_size=batch_size)
    count = batch_length(x)
    with _in_eval_mode(model):
        parts = [model(tree_map(lambda t, k=k: t[k : k + batch_size], x)) for k in range(0, count, batch_size)]
    return torch.cat(parts).flatten(1)


def probe(
    train: tuple[Tensor, Tensor],
    test: tuple[Tensor, Tensor],
    *,
    head: Head = "linear",
    widths: tuple[int, ...] = (1024, 1024),
    epochs: int = 300,
    batch_size: int = 256,
    lr: float = 1e-3,
    seed: int = 0,
) -> ProbeResult:
    """Train a head on features and score it on others: labels by accuracy, numbers by R^2.

    >>> x = torch.randn(400, 3, generator=torch.Generator().manual_seed(0))
    >>> found = probe((x[:300], x[:300, :1]), (x[300:], x[300:, :1]), epochs=60, batch_size=32, lr=0.01)
    >>> found.score > 0.99 and found.trivial < 0.05
    True

    The head is trained by Adam at a constant rate and judged after its last epoch, as linear and MLP probes usually are
    (Garrido, Najman and LeCun, arXiv 2302.10283). Give features that `frozen_features` made.

    Args:
        train, test: features ``[N, d]`` with labels, integers ``[N]``, or with numbers ``[N]`` or ``[N, k]``.
        head: "linear", or "mlp" with ReLU.
        widths: hidden widths of the MLP.
        epochs, batch_size, lr: of the training.
        seed: of the first weights and of the order.

    Raises:
        ShapeError: features and targets do not fit together.
        UnknownNameError: another head.
        DataError: a test label that no training row has, or one that is negative; or no rows.
    """
    (x, y), (u, v) = train, test
    for name, features, targets in (("train", x, y), ("test", u, v)):
        check_floating(features, f"{name}[0]")
        if features.ndim != 2 or targets.shape[:1] != features.shape[:1] or features.shape[1:] != x.shape[1:]:
            raise ShapeError(
                f"{name} has features {tuple(features.shape)} and targets {tuple(targets.shape)}; give [N, d], [N]"
            )
        if not len(features):
            raise DataError(f"{name} has no rows")
    labels = not y.dtype.is_floating_point
    if labels and (int(torch.cat([y, v]).min()) < 0 or int(v.max()) > int(y.max())):
        raise DataError(f"labels must be 0, ..., C - 1 and those of test occur in train; test has {int(v.max())}")
    y, v = (y.long(), v.long()) if labels else (y.reshape(len(y), -1), v.reshape(len(v), -1))
    outputs = int(y.max()) + 1 if labels else y.shape[1]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = _head(head, x.shape[1], widths, outputs).to(x)
    loss = cross_entropy if labels else mse_loss
    adam = partial(torch.optim.Adam, lr=lr)
    fit(made, x, y, loss=loss, epochs=epochs, batch_size=batch_size, optimizer=adam, seed=seed, progress=False)
    with torch.no_grad():
        if labels:
            most = y.bincount(minlength=outputs).argmax()
            return ProbeResult(accuracy(made, u, v), 100 * float((v == most).double().mean()), None, made)
        found, mean = made(u), y.mean(0).expand_as(v)
        each = tuple(r_squared(found[:, k], v[:, k]) for k in range(outputs))
        return ProbeResult(r_squared(found, v), r_squared(mean, v), each, made)


def _head(kind: Head, inputs: int, widths: tuple[int, ...], outputs: int) -> nn.Module:
    if kind not in ("linear", "mlp"):
        raise UnknownNameError(f"head = {kind!r}; give 'linear' or 'mlp'")
    sizes = [inputs, *(widths if kind == "mlp" else ()), outputs]
    layers: list[nn.Module] = []
    for a, b in itertools.pairwise(sizes):
        layers += [nn.Linear(a, b), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


@contextmanager
def _in_eval_mode(model: nn.Module) -> Generator[None]:
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
