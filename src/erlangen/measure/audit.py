"""er.audit: how a model behaves on the orbits of its inputs.

The evaluation along whole orbits follows Zhao, Wang and Kindlmann, "Evaluating Machine Learning Models with NERO:
Non-Equivariance Revealed on Orbits" (2023): a metric becomes a function on the group, and the average of the answers,
brought back, stands in for missing labels.
"""

from __future__ import annotations

import hashlib
import platform
import sys
import time
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from erlangen.actions import Tree, tree_leaves
from erlangen.errors import OrbitError, UnknownNameError
from erlangen.measure.bring import bring
from erlangen.measure.checkpoint import Progress
from erlangen.measure.checks import check_chunk, check_data, check_labels, float_dtype, probe, take
from erlangen.measure.engine import local_blocks, one_block, ray_blocks
from erlangen.measure.error import declared_symmetry, generator_errors, resampling_floor
from erlangen.measure.layers import layer_errors
from erlangen.measure.metrics import Metric, MetricFunction, resolve_metric
from erlangen.measure.models import Model, ModelLike
from erlangen.measure.orbit import Orbit, orbit
from erlangen.measure.plan import Plan
from erlangen.measure.report import AuditReport, Source
from erlangen.measure.rows import plain
from erlangen.measure.scale import Scale, check_scale, spread_factors
from erlangen.symmetry import Symmetry
from erlangen.version import __version__

SIDE_SAMPLES = 32
"""Samples used for the side measurements: Lie derivative, resampling floor, layers."""

MAX_GENERATORS = 64
"""Largest dimension of a group whose Lie derivatives are part of an audit: each one takes two calls of the model."""

ANNOUNCE_SECONDS = 20.0
"""Audits expected to take longer say so on stderr."""

MEMORY_LIMIT = 8 << 30
"""Largest result (three float64 tables of elements x samples) that an audit accepts, in bytes."""


def audit(
    model: ModelLike,
    symmetry: Symmetry | None,
    x: Tree,
    y: Tree | None = None,
    *,
    metric: str | Metric | MetricFunction | None = None,
    elements: int | Tensor | None = None,
    scale: Scale = "norm",
    chunk: int | None = None,
    seed: int = 0,
    layers: bool = False,
    engine: Literal["local", "ray"] = "local",
    progress: bool | None = None,
    resume: str | Path | None = None,
    name: str | None = None,
) -> AuditReport:
    """Measure a model on the orbits of its inputs.

    Args:
        model: a torch module (put into eval mode and restored), a function of tensors or numpy arrays, a fitted estimator
            with `predict`, or the path of an ONNX file; `erlangen.measure.Model` says how each is called.
        symmetry: what is declared; ``None`` takes ``model.symmetry``.
        x: a batch ``[B, ...]`` or a dict or tuple of batches, as the input action moves them: tensors, arrays of any
            library, or lists of numbers. Also a list of samples, which may differ in size, `erlangen.data.GraphData` (under
            "graph"), and a DataLoader or data set with or without labels. Samples of different size are padded; a model
            with an argument ``mask`` gets the mask ``[B, N]`` of rows that exist, any other one never sees padding. Answers
            with a row for each row are zero where there is none, in errors and metrics.
        y: labels or targets ``[B, ...]``. They move with the output action; one that is a function of yours moves targets
            that have the shape of the answers, and must say with `labels` how others move (`erlangen.actions.Custom`).
        metric: "accuracy", "mse", "mae", "cosine", "cross_entropy", "iou", a `Metric`, or ``fn(prediction, target) -> [N]``
            where higher is better. Default: accuracy for integer labels, mse for floating ones. Without labels it compares
            with the consensus alone.
        elements: ``None`` (all of a small finite group, 72 on a circle, else 256), a number, or a tensor of elements.
        scale: what errors are relative to: "norm", ``||f(x)||`` of each sample, or "spread", how much f varies over the
            samples. An offset hides a violation from the norm: a total energy of -1e4 that moves by 1 is wrong by 1e-4 of
            itself, and by all that it says if energies differ by 1. The Lie derivative, the consensus and layers keep the
            norm, and so do all errors where there is no spread: one sample, constant answers, labels, resampled answers; the
            report's ``settings["scale"]`` tells.
        chunk: elements per model call; by default found by timing and kept per model and shape. Results agree between
            chunks to rounding; fix it to make them bit-equal.
        seed: seed of sampled elements and of the bootstrap.
        layers: also measure every layer of a torch module.
        engine: "local", or "ray" to spread blocks of samples over Ray workers (extra ``ray``).
        progress: show a progress bar on stderr; by default for work of more than a few seconds on a terminal.
        resume: a file that keeps what is done, written every few seconds; an audit that was stopped or killed goes on from
            there, and the file is removed by a caller who no longer needs it. On Ray it keeps finished blocks of samples.
        name: name of the model in the report.

    Returns:
        An `AuditReport`. After Ctrl-C it covers the samples finished by then, or if there are none the elements that the
        first of them have seen, and ``report.complete`` is False.

    Raises:
        SymmetryError, ShapeError, DtypeError, NotFiniteError: inputs that do not fit the declaration.
        NondeterministicModelError, BatchDependenceError, ModelError: a model that cannot be measured.
        OrbitError: elements that cannot be visited, or a result table that would not fit in memory.
        DataError, CheckpointError: labels of another length; a resume file of another audit.
    """
    symmetry = declared_symmetry(model, symmetry)
    check_scale(scale)
    check_chunk(chunk)
    spread = {"local": local_blocks, "ray": ray_blocks}.get(engine)
    if spread is None:
        raise UnknownNameError(f"engine = {engine!r} is not known; choose 'local' or 'ray'")
    wrapped, symmetry, x, y = bring(model, symmetry, x, y)
    samples = check_data(x, y)
    scorer = resolve_metric(metric, plain(y))
    visited = orbit(symmetry.domain, elements, seed=seed, dtype=float_dtype(x), device=tree_leaves(x)[0].device)
    _check_memory(len(visited), samples)
    started = time.perf_counter()
    with wrapped.measuring():
        base = probe(wrapped, symmetry, x)
        if y is not None:
            check_labels(symmetry.output, y, base)
        width = _block_size(x, base, len(visited), samples)
        state = Progress(len(visited), samples, width, resume, _fingerprint(visited, x, y, base, scorer))
        plan = Plan(wrapped, symmetry, visited.elements, x, y, scorer, chunk, width)
        if progress is not False:
            seconds = _seconds_per_sample(wrapped, take(x, slice(0, width)))
            announce(seconds * len(visited) * int((~state.done).sum()), len(visited), samples)
        state.run(spread(plan, state.missing(), state.keep), show=progress, label=f"{wrapped.name}: {symmetry}")
        complete = state.complete
        if not bool(state.done.any()):  # stopped in the first block: what there is, is the first elements on it
            kept, count = state.answers, state.answers.count
            visited = Orbit(visited.group, visited.elements[:count], "part", closed=False)
            state.cut(count)
            state.store(state.begun, one_block(plan, visited.elements, state.begun, kept))
        head = take(x, slice(0, SIDE_SAMPLES))
        factors = spread_factors(wrapped, symmetry, visited.elements, x, width) if scale == "spread" else None
        smooth = 0 < symmetry.group.dim <= MAX_GENERATORS and all(
            leaf.is_floating_point() for leaf in tree_leaves(base)
        )
        local, jumps = generator_errors(wrapped, symmetry, head) if smooth else (None, None)
        floor = resampling_floor(wrapped, symmetry, visited.elements, head)
        rows = layer_errors(wrapped, symmetry, head, visited.elements) if layers else None
    exact = visited.method == "all" and all(
        bool(action.is_exact(visited.elements.to(tree_leaves(data)[0].device), take(data, slice(0, 1))).all())
        for action, data in ((symmetry.input, x), (symmetry.output, base))
    )
    done = state.done
    return AuditReport(
        model=name or wrapped.name,
        symmetry=symmetry,
        orbit=visited,
        certificate="exact" if exact and complete else "statistical",
        errors=(state.errors if factors is None else state.errors * factors)[:, done],
        base=None if state.base is None else state.base[done],
        scores=None if state.scores is None else state.scores[:, done],
        consensus=state.consensus[:, done],
        metric=scorer,
        samples=torch.nonzero(done)[:, 0],
        lie_derivative=local,
        resampling=floor,
        layers=rows,
        complete=complete,
        seed=seed,
        seconds=time.perf_counter() - started,
        settings={
            "dtype": str(float_dtype(x)).removeprefix("torch."),
            "device": str(tree_leaves(x)[0].device),
            "samples_per_block": width,
            "chunk": chunk,
            "scale": "norm" if factors is None else "spread",
            "engine": engine,
            "erlangen": __version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
        source=Source(wrapped, x, y),
        jumps=jumps is not None and bool(jumps.any()),
        entries={path: table[:, done] for path, table in state.entries.items()},
    )


def _seconds_per_sample(model: Model, block: Tree) -> float:
    """One call, after those of `probe` have warmed the model up."""
    began = time.perf_counter()
    model(block)
    return (time.perf_counter() - began) / tree_leaves(block)[0].shape[0]


def announce(seconds: float, count: int, samples: int) -> None:
    """Tell on stderr what a large audit will take, judged by one call of the model on one block of samples."""
    if seconds > ANNOUNCE_SECONDS:
        print(
            f"erlangen: {count} elements x {samples} samples: up to {seconds / 60:.1f} min, "
            f"{_result_bytes(count, samples) / 2**20:.0f} MB of results; Ctrl-C keeps what is done",
            file=sys.stderr,
        )


def _result_bytes(count: int, samples: int) -> int:
    """Three float64 tables: errors, scores, consensus."""
    return 3 * 8 * count * samples


def _check_memory(count: int, samples: int) -> None:
    need = _result_bytes(count, samples)
    if need > MEMORY_LIMIT:
        raise OrbitError(
            f"the orbit is too large: {count} elements x {samples} samples give {need / 2**30:.1f} GiB of results; pass "
            "elements=a smaller number, or fewer samples"
        )


def _block_size(x: Tree, base: Tree, count: int, samples: int) -> int:
    """Samples per block: about 2 MB of input, and at most 64 MB of answers kept for the consensus."""
    per_sample = sum(leaf[0].nbytes for leaf in tree_leaves(x))
    answer = count * sum(leaf[0].nbytes for leaf in tree_leaves(base))
    return max(1, min(samples, 256, max(8, (2 << 20) // max(per_sample, 1)), (64 << 20) // max(answer, 1)))


def _fingerprint(visited: Orbit, x: Tree, y: Tree | None, base: Tree, metric: Metric | None) -> str:
    """Hash of everything that decides the numbers, the model's answers to the first samples included."""
    digest = hashlib.sha256(f"{visited.group.name}|{metric.name if metric else None}".encode())
    trees = [visited.elements, x, base] if y is None else [visited.elements, x, base, y]
    for tree in trees:
        for leaf in tree_leaves(tree):
            digest.update(leaf.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
