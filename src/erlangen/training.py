"""er.fit: the one training loop, on Lightning Fabric (CPU, GPU, several devices and nodes)."""

from __future__ import annotations

import copy
import math
import sys
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from erlangen._checkpoint import Options, metric_row, options_of, plain, restore_optimizer, write_checkpoint
from erlangen._training_data import forward, read_training
from erlangen.actions import Tree, tree_leaves, tree_map
from erlangen.errors import CheckpointError, DataError, ErlangenError, ModelError, NotFiniteError, check_sizes, is_whole
from erlangen.files import read_archive, reading
from erlangen.measure.checks import batch_length

if TYPE_CHECKING:
    from lightning_fabric import Fabric

Loss = Callable[[Any, Any], Tensor]
Objective = Callable[[nn.Module, Any, Any], Tensor]
Callback = Callable[[int, nn.Module, dict[str, float]], None]


class Place(NamedTuple):
    """Where and how `fit` computes, as for ``lightning_fabric.Fabric``.

    Attributes:
        accelerator: "cpu", "cuda", "mps" or "auto".
        devices: on each machine; on CPUs the number of processes.
        nodes: number of machines.
        strategy: such as "ddp".
        precision: such as "32-true" or "bf16-mixed".
    """

    accelerator: str = "cpu"
    devices: int = 1
    nodes: int = 1
    strategy: str = "auto"
    precision: Any = "32-true"


_HERE = Place()
_PLACE: ContextVar[Place] = ContextVar("place of training", default=_HERE)


@contextmanager
def training_on(accelerator: str = "cpu", devices: int = 1, nodes: int = 1) -> Generator[None]:
    """Every `fit` inside of the block trains there, unless it is told another place.

    With several devices each has a process of its own, which runs the whole script: write results in the one where
    `is_first_process` is true. On several machines start the script on each, as for ``torchrun``.

    Args:
        accelerator, devices, nodes: see `Place`.

    Raises:
        ErlangenError: a number is not positive.
    """
    check_sizes(devices=devices, nodes=nodes)
    token = _PLACE.set(Place(accelerator, devices, nodes))
    try:
        yield
    finally:
        _PLACE.reset(token)


def one_cycle(done: float, warmup: float = 0.1) -> float:
    """Factor of a learning rate that rises to 1 over the share `warmup` of the steps, then falls to 0 like a cosine.

    Pass it as ``schedule`` to `fit` (Smith and Topin, "Super-Convergence", 2019, without their changes of momentum).

    >>> [round(one_cycle(done), 2) for done in (0.0, 0.1, 0.55, 0.99)]
    [0.04, 1.0, 0.5, 0.0]
    """
    if done < warmup:
        return 0.04 + 0.96 * done / warmup
    return 0.5 + 0.5 * math.cos(math.pi * (done - warmup) / (1 - warmup))


def cosine(done: float) -> float:
    """Factor of a learning rate that falls from 1 to 0 like half a cosine (Loshchilov and Hutter 2017), without a warm-up.

    Pass it as ``schedule`` to `fit`.

    >>> [round(cosine(done), 2) for done in (0.0, 0.25, 0.5, 0.99)]
    [1.0, 0.85, 0.5, 0.0]
    """
    return 0.5 + 0.5 * math.cos(math.pi * done)


def is_first_process() -> bool:
    """Whether this is the only process of the training, or the first of several."""
    return not torch.distributed.is_initialized() or torch.distributed.get_rank() == 0


@dataclass
class FitResult:
    """What training did: metrics of every epoch, the epoch whose weights the model holds, and why it ended."""

    history: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int = -1
    stopped_early: bool = False
    resumed_from: int = 0


def fit(
    model: nn.Module,
    x: Tree,
    y: Tree | None = None,
    *,
    loss: Loss,
    epochs: int,
    batch_size: int = 32,
    lr: float = 1e-3,
    weight_decay: float = 0.0,
    optimizer: Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer] | None = None,
    schedule: Callable[[float], float] | None = None,
    transform: Callable[..., Any] | None = None,
    objective: Objective | None = None,
    validation: tuple[Tree, Tree] | Any | None = None,
    metrics: dict[str, Loss] | None = None,
    patience: int | None = None,
    clip: float | None = None,
    checkpoint: str | Path | None = None,
    callbacks: Sequence[Callback] = (),
    place: Place | None = None,
    seed: int = 0,
    progress: bool | None = None,
    **former: Any,
) -> FitResult:
    """Train a model in place.

    The order of samples and torch's random numbers depend on `seed` and the epoch alone, so a run that was killed and
    resumed ends with the same weights as one that was not.

    Args:
        model: trained in place; on return it holds the best weights by validation loss, or the last ones without
            validation data.
        x, y: trees of tensors ``[N, ...]``, arrays of any library or lists, held in memory; or x is a DataLoader or data set
            that holds both. Models of several arguments get a tuple by position and a dict by name. Lists of samples of
            different size are padded; the model then needs an argument ``mask``, and gets bool ``[B, N]``.
        loss: ``loss(model(x), y)``, a scalar.
        epochs: passes over the data.
        batch_size: samples per step and device.
        lr, weight_decay: of AdamW, the default optimizer.
        optimizer: ``optimizer(parameters)`` for another one.
        schedule: factor of the learning rates before each step, as a function of the share of all steps that is done, such as
            `cosine` or `one_cycle`; 1 without it.
        transform: ``transform(x, y, generator=...) -> (x, y)`` on every batch, such as ``er.augment(symmetry)``.
        objective: ``objective(model, x, y)``, a scalar that is minimised in place of ``loss(model(x), y)``, for what needs the
            inputs: ``lambda model, x, y: loss(model(x), y) + penalty(x)``. Validation uses `loss`.
        validation: ``(x, y)``, or what holds both, measured after every epoch.
        metrics: more functions like `loss`, measured on the validation data.
        patience: stop after so many epochs without a better validation loss.
        clip: largest norm of the gradient.
        checkpoint: file written after every epoch, replaced atomically; an existing one is resumed. A resumed run takes
            `lr`, other options of the optimizer, `schedule` and `patience` from its own call where they are others than
            those of the first call.
        callbacks: called as ``callback(epoch, model, metrics)`` after every epoch; may add to the metrics.
        place: where to train; by default what `training_on` says.
        seed: seed of order, augmentation and dropout.
        progress: show a progress bar on stderr; by default on a terminal.
        former: the fields of `place` one by one, as version 0.1.0 took them; deprecated.

    Raises:
        ErlangenError: a number that is not positive, or patience without validation data.
        DataError: uneven or empty data, or data that are no tensors.
        ModelError: the model is no module with trainable parameters, or the loss is no scalar.
        NotFiniteError: the loss, or with `clip` the gradient, became NaN or Inf; the message names epoch and step, the last
            checkpoint stays.
        CheckpointError: the checkpoint is damaged, or of another model or kind of optimizer.
    """
    _check_options(model, epochs, batch_size, lr, clip, patience, validation)
    x, y, validation = read_training(model, x, y, validation)
    samples = _check_data(x, y, validation)
    place = _place(place, former)
    from lightning_fabric import Fabric

    fabric = Fabric(
        accelerator=place.accelerator,
        devices=place.devices,
        num_nodes=place.nodes,
        strategy=place.strategy,
        precision=place.precision,
    )
    fabric.launch()
    make = optimizer or (lambda parameters: torch.optim.AdamW(parameters, lr=lr, weight_decay=weight_decay))
    made = make(model.parameters())
    options, kind = options_of(made), type(made).__name__
    wrapped, opt = fabric.setup(model, made)
    run = _Run(fabric, wrapped, model, opt, Path(checkpoint) if checkpoint else None, options, kind)
    run.resume(patience, scheduled=schedule is not None)
    value = objective or (lambda module, inputs, targets: loss(forward(module, model, inputs), targets))
    with torch.random.fork_rng(devices=[]), _bar(progress, epochs, fabric.is_global_zero) as advance:
        advance(run.epoch)
        while run.epoch < epochs and not run.result.stopped_early:
            torch.manual_seed(_mix(seed, run.epoch, fabric.global_rank))
            batches = _batches(samples, batch_size, seed, run.epoch, fabric)
            rates = None if schedule is None else run.rates(schedule, epochs, samples, batch_size)
            seeds = _mix(seed, run.epoch, fabric.global_rank)
            with torch.enable_grad():
                row = run.train_epoch(x, y, batches, value, transform, clip, seeds, rates)
            if validation is not None:
                row |= run.validate(validation, {"validation_loss": loss, **(metrics or {})}, batch_size)
            for callback in callbacks:
                callback(run.epoch, model, row)
            run.finish_epoch(row, patience)
            advance(1)
    run.restore_best()
    return run.result


def _place(place: Place | None, former: dict[str, Any]) -> Place:
    """The place of a training, also from the arguments of version 0.1.0."""
    unknown = sorted(set(former) - set(Place._fields))
    if unknown:
        raise TypeError(f"fit() has no argument {unknown[0]!r}")
    place = _PLACE.get() if place is None else place
    if not former:
        return place
    warnings.warn(
        f"fit({', '.join(f'{name}=' for name in former)}): pass place=Place(...); the single arguments go with the next release",
        DeprecationWarning,
        stacklevel=3,
    )
    return place._replace(**{name: value for name, value in former.items() if value is not None})


def _check_options(
    model: nn.Module,
    epochs: int,
    batch_size: int,
    lr: float,
    clip: float | None,
    patience: int | None,
    validation: tuple[Tree, Tree] | None,
) -> None:
    if not isinstance(model, nn.Module):
        raise ModelError(f"model is a {type(model).__name__}; only a torch module can be trained")
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ModelError(f"{type(model).__name__} has no trainable parameters; nothing can be fitted")
    for name, value in (("epochs", epochs), ("batch_size", batch_size)):
        if not is_whole(value, 1):
            raise ErlangenError(f"{name} = {value!r}: give a positive integer")
    for name, value in (("lr", lr), ("clip", 1.0 if clip is None else clip)):
        if not value > 0:
            raise ErlangenError(f"{name} = {value!r}: give a positive number")
    if patience is not None and validation is None:
        raise ErlangenError("patience needs validation=(x, y): early stopping watches the validation loss")


def _check_data(x: Tree, y: Tree, validation: tuple[Tree, Tree] | None) -> int:
    """Number of training samples."""
    for label, (a, b) in {"": (x, y), "validation ": validation or (x, y)}.items():
        sizes = (batch_length(a, f"{label}x"), batch_length(b, f"{label}y"))
        if sizes[0] != sizes[1]:
            raise DataError(f"{label}x and y have the lengths {sorted(sizes)}; give equally many")
    return batch_length(x)


def _mix(seed: int, epoch: int, rank: int) -> int:
    """One seed from three numbers."""
    return (seed * 1_000_003 + epoch * 8_191 + rank * 127) % (1 << 62)


def _batches(samples: int, batch_size: int, seed: int, epoch: int, fabric: Fabric) -> Iterator[Tensor]:
    """Indices of this process' batches: one permutation per epoch, dealt out so that all ranks take equally many steps."""
    order = torch.randperm(samples, generator=torch.Generator().manual_seed(_mix(seed, epoch, 0)))
    world = fabric.world_size
    if samples % world:
        order = torch.cat((order, order[: world - samples % world]))
    yield from order[fabric.global_rank :: world].split(batch_size)


def _take(tree: Tree, window: Tensor | slice) -> Tree:
    """Rows of every leaf."""
    return tree_map(lambda leaf: leaf[window], tree)


@dataclass
class _Run:
    """The state of one training run."""

    fabric: Fabric
    wrapped: Any
    model: nn.Module
    optimizer: Any
    path: Path | None
    options: Options
    """What the optimizer was told by this call."""
    kind: str
    """Name of the optimizer's class."""
    epoch: int = 0
    proven: bool = False
    """Whether a checkpoint of this run was read again."""
    best: float = float("inf")
    best_state: dict[str, Tensor] | None = None
    result: FitResult = field(default_factory=FitResult)

    def train_epoch(
        self,
        x: Tree,
        y: Tree,
        batches: Iterator[Tensor],
        objective: Objective,
        transform: Callable[..., Any] | None,
        clip: float | None,
        seed: int,
        rates: Callable[[int], None] | None,
    ) -> dict[str, float]:
        self.wrapped.train()
        generator = torch.Generator().manual_seed(seed)
        total, count = 0.0, 0
        for step, index in enumerate(batches):
            if rates is not None:
                rates(step)
            xb, yb = _take(x, index), _take(y, index)
            if transform is not None:
                xb, yb = transform(xb, yb, generator=generator)
            xb, yb = (tree_map(self.fabric.to_device, tree) for tree in (xb, yb))
            value = objective(self.wrapped, xb, yb)
            if not isinstance(value, Tensor) or value.numel() != 1:
                got = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
                raise ModelError(f"loss returned {got}; return one number for the batch, for example its mean")
            if not bool(torch.isfinite(value)):
                raise NotFiniteError(
                    f"the loss is {value.item()} at epoch {self.epoch}, step {step}; lower lr, or pass clip="
                )
            self.optimizer.zero_grad()
            self.fabric.backward(value)
            if clip is not None:
                norm = self.fabric.clip_gradients(self.wrapped, self.optimizer, max_norm=clip, error_if_nonfinite=False)
                if norm is not None and not bool(torch.isfinite(norm)):
                    raise NotFiniteError(
                        f"the gradient is not finite at epoch {self.epoch}, step {step}, though the loss is {value.item():.3g}; "
                        "lower lr, or look for roots, norms or divisions at zero in the model"
                    )
            self.optimizer.step()
            total, count = total + float(value.detach()) * len(index), count + len(index)
        return {"epoch": float(self.epoch), "loss": self._mean(total, count)}

    def rates(
        self, schedule: Callable[[float], float], epochs: int, samples: int, batch_size: int
    ) -> Callable[[int], None]:
        """What sets the learning rates before a step of this epoch; it depends on nothing but the step, so runs can resume."""
        steps = math.ceil(math.ceil(samples / self.fabric.world_size) / batch_size)

        def set_rates(step: int) -> None:
            factor = schedule((self.epoch + step / steps) / epochs)
            for group in self.optimizer.param_groups:
                group["lr"] = group.setdefault("initial_lr", group["lr"]) * factor

        return set_rates

    @torch.no_grad()
    def validate(self, data: tuple[Tree, Tree], functions: dict[str, Loss], batch_size: int) -> dict[str, float]:
        self.wrapped.eval()
        samples = tree_leaves(data[0])[0].shape[0]
        totals = dict.fromkeys(functions, 0.0)
        for start in range(0, samples, batch_size):
            window = slice(start, start + batch_size)
            xb, yb = (tree_map(self.fabric.to_device, _take(tree, window)) for tree in data)
            answer = forward(self.wrapped, self.model, xb)
            for name, function in functions.items():
                totals[name] += float(function(answer, yb).mean()) * tree_leaves(xb)[0].shape[0]
        return {name: total / samples for name, total in totals.items()}

    def finish_epoch(self, row: dict[str, float], patience: int | None) -> None:
        row = row if self.path is None else metric_row(row)
        self.result.history.append(row)
        if "validation_loss" in row and row["validation_loss"] < self.best:
            self.best, self.result.best_epoch = row["validation_loss"], self.epoch
            self.best_state = copy.deepcopy(self.model.state_dict())
        self.epoch += 1
        self.result.stopped_early = self._has_waited(patience)
        if self.path is not None:
            self.save(self.path)

    def _has_waited(self, patience: int | None) -> bool:
        return patience is not None and self.epoch - 1 - self.result.best_epoch >= patience

    def restore_best(self) -> None:
        if self.best_state is not None:
            self.model.load_state_dict(self.best_state)
        else:
            self.result.best_epoch = self.epoch - 1
        self.model.eval()

    def _mean(self, total: float, count: int) -> float:
        if self.fabric.world_size == 1:
            return total / count
        summed = self.fabric.all_reduce(torch.tensor([total, float(count)]), reduce_op="sum")
        return float(summed[0] / summed[1])  # pyright: ignore[reportIndexIssue]

    # --- checkpoint ----------------------------------------------------------------------------------------------
    def save(self, path: Path) -> None:
        """Write beside the file and replace it, so that a kill leaves the old or the new one, never a half."""
        state = {
            "model": self.model.state_dict(),
            "optimizer": plain(self.optimizer.state_dict(), "the state of the optimizer"),
            "best_state": self.best_state or {},
            "best": self.best,
            "epoch": self.epoch,
            "history": self.result.history,
            "best_epoch": self.result.best_epoch,
            "stopped_early": self.result.stopped_early,
            "options": self.options,
            "kind": self.kind,
        }
        if self.fabric.is_global_zero:
            write_checkpoint(path, state, prove=not self.proven)
            self.proven = True
        self.fabric.barrier()

    def resume(self, patience: int | None, *, scheduled: bool) -> None:
        """Go on from the checkpoint, if there is one, under the options of this call."""
        if self.path is not None and not self.path.parent.is_dir():
            raise CheckpointError(
                f"checkpoint = {str(self.path)!r}: there is no folder {str(self.path.parent)!r}; create it"
            )
        if self.path is None or not self.path.exists():
            return
        what = f"checkpoint = {str(self.path)!r} cannot be resumed"
        remedy = "it is damaged, or of another model or optimizer: remove it or pass another path"
        with reading(what, remedy=remedy, error=CheckpointError):
            state = read_archive(self.path.read_bytes(), device=self.fabric.device)
            kind = state.get("kind", self.kind)
            if kind != self.kind:
                raise CheckpointError(
                    f"{what}: it was written with the optimizer {kind}, and this call has {self.kind}; pass the same one, "
                    "or another path"
                )
            restore_optimizer(self.optimizer, state["optimizer"], self.options, state.get("options"))
            self.model.load_state_dict(state["model"])
            self.best_state = state["best_state"] or None
            self.best, self.epoch = float(state["best"]), int(state["epoch"])
            history = [metric_row(row) for row in state["history"]]
            self.result = FitResult(history, int(state["best_epoch"]), False, self.epoch)
        if not scheduled:
            for group, made in zip(self.optimizer.param_groups, self.options, strict=True):
                if "initial_lr" in group and "initial_lr" not in made:
                    group["lr"] = group.pop("initial_lr")  # the schedule of the first call is gone
        self.result.stopped_early = self._has_waited(patience)


class _bar:  # noqa: N801 - used as a function
    """A progress bar over epochs on stderr; entering yields the function that advances it."""

    def __init__(self, show: bool | None, epochs: int, first: bool) -> None:
        from rich.console import Console
        from rich.progress import Progress

        console = Console(stderr=True)
        visible = first and (show if show is not None else console.is_terminal and sys.stderr.isatty())
        self._bar = Progress(console=console, transient=True, disable=not visible)
        self._epochs = epochs

    def __enter__(self) -> Callable[[int], None]:
        self._bar.start()
        task = self._bar.add_task("training", total=self._epochs)
        return lambda steps: self._bar.advance(task, steps)

    def __exit__(self, *_: object) -> None:
        self._bar.stop()
