"""Charged particles: the network that frames its latent features anew, its rivals, and how they are trained."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import mse_loss

from erlangen.actions import Tree
from erlangen.enforce import FrameSet, PCAFrame, symmetrize
from erlangen.errors import (
    DegenerateFrameError,
    ErlangenError,
    NotFiniteError,
    ShapeError,
    UnknownNameError,
    first_index,
    tell_degenerate,
)
from erlangen.groups import SE, SO, E, O
from erlangen.measure import equivariance_error
from erlangen.nn import EGNN, CentredMover, MessagePassing, SpeedEGNN
from erlangen.nn.graphs.graph_networks import edges_of
from erlangen.simulate.charges import Charges, charges_ahead
from erlangen.soft import augment
from erlangen.symmetry import Symmetry
from erlangen.training import fit

BODIES = {"pos": "points", "vel": "vectors", "edge_attr": "invariant"}
"""How the groups of space act on particles with velocities and features of pairs."""

MOTIONS = Symmetry(E(3), input=BODIES, output="points")
"""Rotations, reflections and shifts move the particles, and the prediction of their places with them."""

FEATURES = 30
"""Width of the networks; a multiple of three, so that features are vectors."""

LAYERS = 3
RATES = (1e-2, 3e-2)
"""Learning rates that are tried for every model."""


# --- data -------------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Budget:
    """What every model gets: systems to train, to choose the learning rate and to test; epochs, and those of a trial."""

    train: int
    validation: int
    test: int
    epochs: int
    trial_epochs: int
    batch_size: int = 100


def splits(budget: Budget, seed: int, charges: bool = False) -> tuple[Charges, Charges, Charges]:
    """Systems to train, to validate and to test."""
    first, second = budget.train, budget.train + budget.validation
    data = charges_ahead(second + budget.test, seed, charges)
    return part(data, 0, first), part(data, first, second), part(data, second, second + budget.test)


def part(data: Charges, first: int, last: int) -> Charges:
    """Systems from first to last."""
    return {key: value[first:last] for key, value in data[0].items()}, data[1][first:last]


@torch.no_grad()
def mean_square(model: nn.Module, data: Charges) -> float:
    """Mean squared error of the predicted coordinates."""
    model.eval()
    return float(mse_loss(model(data[0]), data[1]))


# --- the network ------------------------------------------------------------------------------------------------------
class FrameGNN(nn.Module):
    """A message passing network that is exact under motions, by frames that are computed anew after every layer.

    The input enters in all coordinate systems of its frame. After each layer but the last, features are read as vectors,
    turned back and averaged over the frame, which makes them equivariant; the frame of these latent vectors then takes
    the place of the former, and the features enter the next layer in its coordinates (Puny et al. 2022, section 4.3 and
    the authors' code). Frames are constants for the gradient.

    Args:
        net: the network; ``net.embed`` reads position and velocity in coordinates, 6 numbers, ``net.decode`` gives 3, and
            its width is a multiple of three.
        group: E(3), or SE(3), whose frames are half as large and keep mirror images apart.
        on_degenerate: what happens to inputs that do not determine their frame: "warn", "error" or "allow". Latent frames
            are not judged.

    Attributes:
        symmetry: `group` on dicts of ``pos``, ``vel`` and ``edge_attr``, to points.

    Raises:
        ErlangenError: `net` has other sizes, or `group` is another one.
        UnknownNameError: `on_degenerate` is no known name.
    """

    def __init__(self, net: MessagePassing, group: E | SE | None = None, *, on_degenerate: str = "warn") -> None:
        super().__init__()
        width = next(net.embed.parameters()).shape[0]
        outputs = list(net.decode.parameters())[-1].shape[0]
        if width % 3 or net.in_features != 6 or outputs != 3:
            raise ErlangenError(
                f"net reads {net.in_features} numbers, has width {width} and gives {outputs}; it needs 6, a multiple of 3, and 3"
            )
        group = E(3) if group is None else group
        if type(group) not in (E, SE) or group.space_dim != 3:
            raise ErlangenError(f"group is {group!r}; give E(3) or SE(3)")
        if on_degenerate not in ("warn", "error", "allow"):
            raise UnknownNameError(f"on_degenerate = {on_degenerate!r}: choose 'warn', 'error' or 'allow'")
        self.net, self.on_degenerate = net, on_degenerate
        actions = BODIES if net.edge_features else {key: BODIES[key] for key in ("pos", "vel")}
        self.symmetry = Symmetry(group, input=actions, output="points")
        around = O(3) if isinstance(group, E) else SO(3)
        moving = Symmetry(around, input={"pos": "vectors", "vel": "vectors"}, output="vectors")
        self._outer = PCAFrame(moving)
        self._latent = PCAFrame(Symmetry(around, input="vectors", output="vectors"))

    def forward(self, x: dict[str, Tensor]) -> Tensor:
        """Positions ``[B, N, 3]`` that are predicted.

        Args:
            x: ``pos`` and ``vel`` ``[B, N, 3]``, and ``edge_attr [B, N, N, F]`` where the network reads it.

        Raises:
            ShapeError: shapes do not fit, or there are no particles.
            NotFiniteError: a number is NaN or infinite; names the system.
            DegenerateFrameError: all particles lie at one place and rest, or see `on_degenerate`.
        """
        pos, vel = self._checked(x)
        centre = pos.double().mean(1, keepdim=True)  # in float64, so that far away places do not cost digits
        local = {"pos": (pos.double() - centre).to(pos), "vel": vel}
        frames = self._outer(local)
        self._judge(frames)
        axes = frames.elements.to(pos)
        h = torch.cat([_into(local["pos"], axes), _into(vel, axes)], -1)
        count = axes.shape[1]
        edges, attr = edges_of(h, self._repeated(x, count), self.net.edge_features, None)
        h = self.net.embed(h.flatten(0, 2))
        for index, layer in enumerate(self.net.layers):
            h = layer(h, edges, attr)
            if index + 1 < len(self.net.layers):
                axes, h = self._reframed(axes, h, pos.shape[1])
        moved = _back(axes, self.net.decode(h).reshape(len(pos), count, pos.shape[1], 3)).mean(1)
        return (local["pos"].double() + moved.double() + centre).to(pos)

    def gaps(self, x: dict[str, Tensor]) -> Tensor:
        """How well the frames of systems ``[B]`` are determined: smallest relative gap of the eigenvalues."""
        pos, vel = self._checked(x)
        return self._outer({"pos": pos - pos.mean(1, keepdim=True), "vel": vel}).gap

    def _reframed(self, axes: Tensor, h: Tensor, nodes: int) -> tuple[Tensor, Tensor]:
        """The frame ``[B, K, 3, 3]`` of latent vectors, and the features ``[B K N, W]`` in its coordinates."""
        batch, count = axes.shape[:2]
        channels = h.shape[-1] // 3
        vectors = _back(axes, h.reshape(batch, count, nodes * channels, 3)).mean(1)
        spread = vectors.detach() - vectors.detach().mean(1, keepdim=True)
        axes = self._latent(spread).elements.to(vectors)
        return axes, _into(vectors, axes).reshape(batch * count * nodes, 3 * channels)

    def _repeated(self, x: dict[str, Tensor], count: int) -> Tensor | None:
        attr = x.get("edge_attr")
        return None if attr is None else attr[:, None].expand(-1, count, -1, -1, -1)

    def _checked(self, x: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        missing = [key for key in ("pos", "vel") if key not in x]
        if missing:
            raise ShapeError(f"x has no {' and no '.join(missing)}; its keys are {sorted(x)}")
        pos, vel = x["pos"], x["vel"]
        if pos.dim() != 3 or pos.shape[-1] != 3 or pos.shape[1] == 0 or vel.shape != pos.shape:
            raise ShapeError(
                f"pos and vel have shapes {tuple(pos.shape)} and {tuple(vel.shape)}; pass [B, N, 3] twice, N at least 1"
            )
        if not torch.compiler.is_compiling():
            for key, value in x.items():
                bad = ~torch.isfinite(value)
                if bool(bad.any()):
                    raise NotFiniteError(f"{key}: system {first_index(bad)[0]} of the batch is not finite; remove it")
        return pos, vel

    def _judge(self, frames: FrameSet) -> None:
        if self.on_degenerate == "allow" or torch.compiler.is_compiling():
            return
        spectrum = cast("Tensor", frames.spectrum)
        absent, close = (spectrum == 0).all(-1), frames.gap < 1e-6
        if bool(absent.any()):
            raise DegenerateFrameError(
                f"system {first_index(absent)[0]} has no frame: zero covariance, all particles lie at one place and rest"
            )
        if bool(close.any()):
            index = first_index(close)[0]
            message = (
                f"system {index} does not determine its frame: eigenvalues {[f'{v:.4g}' for v in spectrum[index].tolist()]} "
                f"have the relative gap {float(frames.gap[index]):.2g}, so the prediction may not be equivariant there; "
                "break the tie, average over sampled elements of the group, or pass on_degenerate='allow'"
            )
            tell_degenerate(message, self.on_degenerate, stacklevel=3)


def _into(vectors: Tensor, axes: Tensor) -> Tensor:
    """Coordinates ``[B, K, M, 3]`` of ``[B, M, 3]`` along the columns of axes ``[B, K, 3, 3]``."""
    return vectors[:, None] @ axes


def _back(axes: Tensor, coordinates: Tensor) -> Tensor:
    """The inverse of `_into`, for coordinates that differ from frame to frame ``[B, K, M, 3]``."""
    return coordinates @ axes.mT


# --- rivals -----------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class RandomTurns:
    """Not a frame but random elements of O(3) about the centroid, new ones in every training step."""

    count: int

    @property
    def is_enumerable(self) -> bool:
        """A sample is all there is."""
        return False

    def __call__(self, x: Tree, mask: Tensor | None = None) -> FrameSet:
        """The same elements as in evaluation."""
        return self.sample(x, self.count, Generator().manual_seed(0), mask, whole=True)

    def sample(
        self, x: Tree, k: int, generator: Generator, mask: Tensor | None = None, *, whole: bool = False
    ) -> FrameSet:
        """k elements for every system, or with `whole` the same for all."""
        centre = x["pos"].double().mean(1)
        batch = len(centre)
        turns = O(3).sample(k if whole else batch * k, generator=generator, dtype=torch.float64)
        turns = turns.expand(batch, k, 3, 3) if whole else turns.unflatten(0, (batch, k))
        elements = E(3).join(turns, centre[:, None].expand(batch, k, 3))
        return FrameSet(elements, torch.full((batch, k), 1 / k, dtype=torch.float64), torch.full((batch,), math.inf))


def plain_net() -> MessagePassing:
    """The network that all but EGNN share."""
    return MessagePassing(6, 3, FEATURES, layers=LAYERS, edge_features=1)


MODELS: dict[str, Callable[[], nn.Module]] = {
    "FA-GNN, latent frames": lambda: FrameGNN(plain_net(), on_degenerate="allow"),
    "GNN": lambda: CentredMover(plain_net()),
    "GNN, augmented": lambda: CentredMover(plain_net()),
    "GNN, 8 random rotations": lambda: symmetrize(CentredMover(plain_net()), MOTIONS, frame=RandomTurns(8), samples=8),
    "EGNN": lambda: SpeedEGNN(EGNN(1, 1, FEATURES - 4, layers=LAYERS, edge_features=1, velocity=True)),
}


# --- training ---------------------------------------------------------------------------------------------------------
def trained(name: str, data: Charges, epochs: int, batch_size: int, rate: float, seed: int) -> nn.Module:
    """One model, trained with a learning rate that falls to zero along a cosine."""
    torch.manual_seed(seed)
    model = MODELS[name]()
    optimizer = torch.optim.Adam(model.parameters(), lr=rate, weight_decay=1e-12)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    fit(
        model,
        *data,
        loss=mse_loss,
        epochs=epochs,
        batch_size=batch_size,
        optimizer=lambda _: optimizer,
        transform=augment(Symmetry(O(3), input=BODIES, output="points")) if name == "GNN, augmented" else None,
        callbacks=[lambda epoch, model, metrics: schedule.step()],
        clip=1.0,
        seed=seed,
        progress=False,
    )
    return model


def best_rate(name: str, train: Charges, validation: Charges, budget: Budget, seed: int) -> float:
    """The learning rate of the smallest error on validation data after a short training."""
    errors = {
        rate: mean_square(trained(name, train, budget.trial_epochs, budget.batch_size, rate, seed), validation)
        for rate in RATES
    }
    return min(errors, key=errors.__getitem__)


def nbody_runs(name: str, budget: Budget, seeds: Sequence[int]) -> list[dict[str, Any]]:
    """What each seed measures; the learning rate is chosen on the first."""
    runs: list[dict[str, Any]] = []
    rate = 0.0
    for seed in seeds:
        train, validation, test = splits(budget, seed)
        rate = rate or best_rate(name, train, validation, budget, seed)
        begin = time.process_time()
        model = trained(name, train, budget.epochs, budget.batch_size, rate, seed)
        seconds = time.process_time() - begin
        few = part(test, 0, 20)[0]
        runs.append(
            {
                "test mse": mean_square(model, test),
                "equivariance error": float(
                    equivariance_error(model, MOTIONS, few, elements=20, reduce="max", seed=seed)
                ),
                "training seconds": seconds,
                "learning rate": str(rate),
                "parameters": sum(p.numel() for p in model.parameters()),
                "epochs": budget.epochs,
                "samples": budget.train,
            }
        )
    return runs


def simple_runs(speed: float, budget: Budget, seeds: Sequence[int]) -> list[dict[str, Any]]:
    """Errors of a guess without a network: particles stay (speed 0), or keep their velocity (speed 1)."""
    tests = [splits(budget, seed)[2] for seed in seeds]
    return [{"test mse": float(mse_loss(x["pos"] + speed * x["vel"], y)), "parameters": 0} for x, y in tests]
