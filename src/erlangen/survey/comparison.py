"""Train rivals alike and compare them: `compare`, and `sweep` for what is solved and not trained.

>>> import torch
>>> from erlangen.survey import Rival, Run, Sizes, Split, Training, compare
>>> run = Run("full")
>>> def draw(seed: int) -> Split:
...     x = torch.randn(200, 2, generator=torch.Generator().manual_seed(seed))
...     return Split.of(x, x[:, :1] - 3 * x[:, 1:], run.sizes(Sizes(100, 50, 50)))
>>> def measure(model, x, y, generator):
...     with torch.no_grad():
...         return {"error": float((model(x) - y).square().mean())}
>>> rivals = {"line": Rival(lambda: torch.nn.Linear(2, 1)), "zero": Rival(lambda: lambda x: 0 * x[:, :1], trains=False)}
>>> how = Training(torch.nn.functional.mse_loss, epochs=20, batch=25, rates=(0.1, 0.3, 1.0), widen=0)
>>> table = compare("toy", rivals, draw, how, measure, best="error", run=run)
>>> [(row["model"], row["rates tried"], row["error"] < 0.1) for row in table.rows]
[('line', '0.1, 0.3, 1', True), ('zero', None, False)]
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, Protocol

import torch
from torch import Generator, nn

from erlangen.actions import Tree, tree_leaves, tree_map
from erlangen.errors import NotFiniteError, check_integer
from erlangen.survey.claims import ClaimError
from erlangen.survey.runs import Run, Sizes
from erlangen.survey.tables import Row, Table
from erlangen.training import Callback, FitResult, Loss, Objective, cosine, fit

__all__ = ["Measure", "Rival", "Split", "Training", "compare", "sweep"]

Pair = tuple[Tree, Tree]
"""Inputs and targets, trees of tensors ``[N, ...]``."""

Measure = Callable[[Any, Any, Any, Generator], Mapping[str, Any]]
"""``measure(model, x, y, generator)``: what a model does on data, a row of columns."""


class Split(NamedTuple):
    """Data of one seed, each ``(x, y)``: what trains, what chooses the learning rate, what is reported."""

    train: Pair
    validation: Pair
    test: Pair

    @classmethod
    def of(cls, x: Tree, y: Tree, sizes: Sizes) -> Split:
        """Consecutive samples of trees of tensors ``[N, ...]``, N at least ``sizes.total``.

        Raises:
            ClaimError: there are fewer samples.
        """
        leaves = tree_leaves((x, y))
        if min(len(leaf) for leaf in leaves) < sizes.total:
            raise ClaimError(f"the data have {min(len(leaf) for leaf in leaves)} samples, but sizes = {sizes}")
        ends = (sizes.train, sizes.train + sizes.validation, sizes.total)
        pieces = [slice(begin, end) for begin, end in zip((0, *ends), ends, strict=False)]
        return cls(*(tree_map(lambda leaf, piece=piece: leaf[piece], (x, y)) for piece in pieces))


class Optimizer(Protocol):
    """A class of `torch.optim`."""

    def __call__(self, params: Iterable[nn.Parameter], /, *, lr: float, weight_decay: float) -> torch.optim.Optimizer:
        """The optimizer of these parameters."""
        ...


@dataclass(frozen=True)
class Training:
    """What every rival of a table gets alike.

    Attributes:
        loss: ``loss(model(x), y)``.
        epochs: passes over the training data.
        batch: samples per step.
        rates: learning rates that every rival is tried with, on validation data, at full length. Where the best is the first
            or last of them by size, the next one beyond is tried too, up to `widen` times.
        optimizer, decay: a class of `torch.optim`, and its weight decay.
        schedule: see `erlangen.fit`.
        clip: largest norm of the gradient.
        choose: choose rates on the first seed, for all, or on every seed anew.
        widen: how many rates beyond those given may be tried.
        objective: ``objective(model, x, y)`` in place of the loss, where it needs the model or the inputs.
        keep: weights of the last epoch, or of the best one by the loss on validation data.
    """

    loss: Loss
    epochs: int
    batch: int
    rates: tuple[float, ...]
    optimizer: Optimizer = torch.optim.AdamW
    decay: float = 0.0
    schedule: Callable[[float], float] | None = cosine
    clip: float | None = None
    choose: Literal["first seed", "every seed"] = "first seed"
    widen: int = 2
    objective: Objective | None = None
    keep: Literal["last", "best"] = "last"

    def __post_init__(self) -> None:
        if not self.rates or not all(rate > 0 and math.isfinite(rate) for rate in self.rates):
            raise ClaimError(f"Training.rates = {self.rates}; give learning rates that are positive")
        for name in ("epochs", "batch"):
            check_integer(f"Training.{name}", getattr(self, name), 1, error=ClaimError)

    def fit(
        self,
        model: nn.Module,
        split: Split,
        rate: float,
        generator: Generator,
        *,
        loss: Loss | None = None,
        objective: Objective | None = None,
        transform: Callable[..., Any] | None = None,
        callbacks: Sequence[Callback] = (),
        validate: bool = False,
    ) -> FitResult:
        """Train a model in place as `compare` does, for a `Rival.fit` that differs from it in little.

        Args:
            model, split, rate, generator: as `Rival.fit` gets them; the seed of the generator is that of the order of samples.
            loss, objective: in place of those of this training.
            transform, callbacks: see `erlangen.fit`.
            validate: measure the loss on validation data after every epoch, for callbacks; the best weights are kept.
        """
        return fit(
            model,
            *split.train,
            loss=loss or self.loss,
            objective=objective or self.objective,
            epochs=self.epochs,
            batch_size=self.batch,
            optimizer=lambda parameters: self.optimizer(parameters, lr=rate, weight_decay=self.decay),
            schedule=self.schedule,
            transform=transform,
            clip=self.clip,
            validation=split.validation if validate or self.keep == "best" else None,
            callbacks=callbacks,
            seed=generator.initial_seed(),
            progress=False,
        )


Fit = Callable[[Any, Split, float, Training, Generator], Any]
"""``fit(model, split, rate, training, generator)`` trains a model in place, or returns another one."""


@dataclass(frozen=True)
class Rival:
    """One of the models that are compared.

    Attributes:
        make: a fresh model; its weights come from torch's global stream, which is seeded.
        transform: of its training batches, as for `erlangen.fit`: ``transform(x, y, generator=...) -> (x, y)``.
        trains: False for what has nothing to learn.
        loss, objective: in place of those of `Training`.
        fit: in place of `erlangen.fit`, for training that is no loss over batches: adversarial, reinforcement, federated
            rounds, L-BFGS, kernel methods. It gets the model, the split of the seed, a rate, the `Training` and a generator,
            spends what `Training` allows, and may return another model.
        rates: in place of those of `Training`, for another kind of training.
        prepare: ``prepare(model, split)`` before training, for what looks at training data first, such as the scale of outputs.
        longer: how many times the epochs of `Training` this one gets, for a row that says what more of them would do; its name
            says so too.
    """

    make: Callable[[], Any]
    transform: Callable[..., Any] | None = None
    trains: bool = True
    loss: Loss | None = None
    fit: Fit | None = None
    objective: Objective | None = None
    rates: tuple[float, ...] | None = None
    prepare: Callable[[Any, Split], object] | None = None
    longer: int = 1


class _Trained(NamedTuple):
    """A model that was trained with one rate, what that cost, and how it does on validation data; smaller is better."""

    model: Any
    rate: float | None
    seconds: float
    score: float


def compare(
    part: str,
    rivals: Mapping[str, Rival],
    draw: Callable[[int], Split],
    training: Training,
    measure: Measure,
    *,
    best: str,
    run: Run[Any],
    larger: Sequence[str] = ("accuracy",),
    validate: Measure | None = None,
) -> Table:
    """Train all rivals alike with every seed, and measure them on the same data.

    Every rival has the same data, epochs, batches and number of trials by construction. Its learning rate is the one of
    `Training.rates` with the best validation data after a training of full length; at scale smoke, and in a dry run, the first.

    Args:
        part: name of the table.
        rivals: by name.
        draw: ``draw(seed)``, the data of one seed; all rivals get the same. Sizes go through `Run.sizes`, for dry runs.
        training: see `Training`.
        measure: see `Measure`; it gets the test data, and a generator that is the same for all rivals.
        best: the column of `measure` that chooses learning rates on validation data.
        run: scale, seeds and device.
        larger: columns that are better when they are larger begin with one of these words.
        validate: a shorter `measure` for validation data, with at least the column `best`.

    Returns:
        A `Table` with, beside what `measure` gives, the learning rate, the rates tried and on which seed, trainable parameters,
        epochs, samples, and seconds of processor time of the one training that counts.

    Raises:
        ClaimError: `best` is no number that `measure` gives, or there are no rivals.
        NotFiniteError: a rival's training fails with every learning rate.
    """
    if not rivals:
        raise ClaimError(f"compare({part!r}): there are no rivals")
    if run.dry:
        training = replace(training, epochs=1)
    better = 1.0 if best.startswith(tuple(larger)) else -1.0
    rows: dict[str, list[Row]] = {name: [] for name in rivals}
    rates: dict[str, tuple[float | None, tuple[float, ...]]] = {}
    for seed in run.seeds:
        split = draw(seed)

        def score(model: Any, split: Split = split, seed: int = seed) -> float:
            row = _measured(validate or measure, model, split.validation, seed, run.device)
            if not isinstance(row.get(best), int | float):
                raise ClaimError(f"best = {best!r} is no number that measure gives; its columns are {', '.join(row)}")
            return -better * float(row[best])

        for name, rival in rivals.items():
            chosen = name in rates and training.choose == "first seed"
            if chosen or not rival.trains:
                given = rates[name][0] if chosen else None
                found = _train(rival, split, given, training, seed, run.device)
            else:
                found, tried = _chosen(name, rival, split, training, seed, run, score)
                rates[name] = (found.rate, tried)
            row: Row = {"model": name, "seed": seed, "learning rate": found.rate}
            row["rates tried"] = ", ".join(f"{rate:g}" for rate in rates[name][1]) if rival.trains else None
            row["rate chosen on"] = training.choose if rival.trains else None
            row["parameters"] = _parameters(found.model)
            row["epochs"] = training.epochs * rival.longer if rival.trains else 0
            row["samples"] = len(tree_leaves(split.train)[0])
            row["seconds"] = found.seconds
            rows[name].append(row | dict(_measured(measure, found.model, split.test, seed, run.device)))
    return Table(part, [row for name in rivals for row in rows[name]], run, larger=larger)


def sweep(
    part: str,
    methods: Mapping[str, Callable[[int], Mapping[str, Any]]],
    *,
    run: Run[Any],
    larger: Sequence[str] = ("accuracy",),
    once: bool = False,
) -> Table:
    """A table of what is solved and not trained: every method, with every seed.

    Args:
        part: name of the table.
        methods: by name, a function from a seed to a row of columns.
        run: scale and seeds.
        larger: columns that are better when they are larger begin with one of these words.
        once: nothing is random, so that the first seed is all there is.

    Returns:
        A `Table` with, beside what the methods give, seconds of processor time.
    """
    rows: list[Row] = []
    for name, method in methods.items():
        for seed in run.seeds[:1] if once else run.seeds:
            torch.manual_seed(seed)
            begin = time.process_time()
            row = dict(method(seed))
            rows.append({"model": name, "seed": seed, "seconds": time.process_time() - begin} | row)
    return Table(part, rows, run, larger=larger, once=once)


# --- inside ----------------------------------------------------------------------------------------------------------
def _chosen(
    name: str,
    rival: Rival,
    split: Split,
    training: Training,
    seed: int,
    run: Run[Any],
    score: Callable[[Any], float],
) -> tuple[_Trained, tuple[float, ...]]:
    """The model of the rate that does best on validation data, and the rates that were tried."""
    rates = list(rival.rates or training.rates)
    if not run.settles:
        rates = rates[:1]
    tried: dict[float, _Trained | None] = {}
    left = training.widen if len(rates) > 1 else 0
    waiting = list(rates)
    failure: NotFiniteError | None = None
    while waiting:
        rate = waiting.pop(0)
        try:
            found = _train(rival, split, rate, training, seed, run.device)
            # A single rate needs no choice, and a run without validation data can make none.
            tried[rate] = found._replace(score=score(found.model)) if len(rates) > 1 else found
        except NotFiniteError as error:  # a rate that is too large loses against the others, and says so if all are
            tried[rate], failure = None, error
        best = _best(tried)
        if not waiting and left and best is not None:
            beyond = _beyond(best, sorted(tried))
            if beyond is not None:
                waiting, left = [beyond], left - 1
    best = _best(tried)
    if best is None:
        raise NotFiniteError(
            f"{name!r} cannot be trained with any of the rates {sorted(tried)}: {failure}"
        ) from failure
    found = tried[best]
    assert found is not None
    return found, tuple(sorted(tried))


def _best(tried: Mapping[float, _Trained | None]) -> float | None:
    """The rate with the best score; of equals, the one tried first."""
    scores = {rate: math.inf if math.isnan(one.score) else one.score for rate, one in tried.items() if one is not None}
    return min(scores, key=lambda rate: scores[rate]) if scores else None


def _beyond(best: float, tried: list[float]) -> float | None:
    """The next rate beyond the edge of those tried, in their own ratio; None where the best one lies inside."""
    if best == tried[0]:
        return best * tried[0] / tried[1]
    if best == tried[-1]:
        return best * tried[-1] / tried[-2]
    return None


def _train(rival: Rival, split: Split, rate: float | None, training: Training, seed: int, device: str) -> _Trained:
    """A fresh model, trained with this rate."""
    training = replace(training, epochs=training.epochs * rival.longer)
    torch.manual_seed(seed)
    model = rival.make()
    if isinstance(model, nn.Module):
        model.to(device)
    begin = time.process_time()
    if rival.prepare is not None:
        rival.prepare(model, _on(split, device))
    generator = Generator().manual_seed(seed)
    if rival.trains and rival.fit is not None:
        other = rival.fit(model, _on(split, device), float(rate or 0), training, generator)
        model = model if other is None else other
    elif rival.trains:
        loss, objective, transform = rival.loss, rival.objective, rival.transform
        training.fit(model, split, float(rate or 0), generator, loss=loss, objective=objective, transform=transform)
    seconds = time.process_time() - begin
    return _Trained(model, rate, seconds, math.inf)


def _measured(measure: Measure, model: Any, data: Pair, seed: int, device: str) -> Mapping[str, Any]:
    """What a model does on data, on the device of the run; the model is left as it was."""
    mode = model.training if isinstance(model, nn.Module) else None
    if isinstance(model, nn.Module):
        model.to(device).eval()
    x, y = _on(data, device)
    row = measure(model, x, y, Generator().manual_seed(seed + 1))
    if mode is not None:
        model.train(mode)
    return row


def _on(data: Any, device: str) -> Any:
    return tree_map(lambda leaf: leaf.to(device) if isinstance(leaf, torch.Tensor) else leaf, data)


def _parameters(model: Any) -> int:
    """Trainable numbers of a model."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad) if isinstance(model, nn.Module) else 0
