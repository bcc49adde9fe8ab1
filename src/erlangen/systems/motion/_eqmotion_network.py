"""EqMotion: the past of interacting agents in, their future out, moved as they are; see `erlangen.systems.motion.eqmotion`."""

from __future__ import annotations

import itertools
import math
from typing import cast

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from erlangen.errors import (
    DtypeError,
    ErlangenError,
    NotFiniteError,
    ShapeError,
    UnknownNameError,
    check_floating,
    check_sizes,
    first_index,
)
from erlangen.groups import E, O
from erlangen.nn import VectorLinear, VectorReLU, mlp
from erlangen.numerics import angle, safe_norm
from erlangen.symmetry import Symmetry

__all__ = ["EqMotion", "MotionLayer", "cosine_basis", "finite_velocity", "reasoning_accuracy"]


def cosine_basis(n: int, dtype: torch.dtype | None = None, device: torch.device | None = None) -> Tensor:
    """The orthonormal discrete cosine transform of type II ``[n, n]``: row k is the wave of k half periods.

    ``D @ x`` transforms the axis before the last, ``D.mT @ x`` transforms back. It mixes frames and leaves coordinates
    alone, so it commutes with rotations. Row 0 is constant: the only one that a shift changes.
    """
    k, i = torch.arange(n, device=device, dtype=torch.float64)[:, None], torch.arange(n, device=device) + 0.5
    waves = (math.pi / n * k * i).cos() * math.sqrt(2 / n)
    waves = torch.where(k == 0, math.sqrt(1 / n), waves)
    return waves.to(torch.get_default_dtype() if dtype is None else dtype)


def finite_velocity(pos: Tensor) -> Tensor:
    """Differences of positions ``[..., T, n]`` from frame to frame, of the same shape; the first is the second once more.

    Raises:
        ShapeError: fewer than two frames.
    """
    if pos.dim() < 2 or pos.shape[-2] < 2:
        raise ShapeError(f"pos has shape {tuple(pos.shape)}; a velocity needs [..., T, n] with T at least 2")
    steps = pos.diff(dim=-2)
    return torch.cat([steps[..., :1, :], steps], -2)


class PairLayer(nn.Module):
    """The first layer of networks of pairs: an activation of a linear map of ``[h_i, h_j, distances]``.

    Features of agents are mapped before they meet in pairs, of which there are more.
    """

    def __init__(self, features: int, distances: int, width: int, generator: Generator | None) -> None:
        super().__init__()
        linear = cast("nn.Linear", mlp([2 * features + distances, width], generator=generator)[0])
        self.sizes, self.weight, self.bias = [features, features, distances], linear.weight, linear.bias

    def forward(self, h: Tensor, distances: Tensor) -> Tensor:
        """``[..., N, N, width]`` of h ``[..., N, features]`` and distances ``[..., N, N, distances]``."""
        own, other, apart = self.weight.split(self.sizes, 1)
        nodes = F.linear(h, own, self.bias)[..., :, None, :] + F.linear(h, other)[..., None, :, :]
        return F.silu(nodes + distances @ apart.mT)


class Reader(nn.Module):
    """What agents start with: invariants of their motion, and vectors that mix the waves of its frames."""

    def __init__(
        self, frames: int, features: int, channels: int, dim: int, in_features: int, generator: Generator | None
    ) -> None:
        super().__init__()
        self.frames = frames
        self.embed = mlp([2 * frames + in_features, features], generator=generator)
        self.pos = VectorLinear(frames, channels, dim=dim, generator=generator)
        self.vel = VectorLinear(frames, channels, dim=dim, generator=generator)

    def forward(
        self, local: Tensor, vel: Tensor, x: Tensor | None, mask: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Invariants ``[..., N, F]``, vectors of positions and of velocities ``[..., N, C, n]``, of the last frames."""
        local, vel = local[..., -self.frames :, :], vel[..., -self.frames :, :]
        turning = F.pad(angle(vel[..., 1:, :], vel[..., :-1, :]), (1, 0))
        h = self.embed(torch.cat([safe_norm(vel), turning, *([] if x is None else [x])], -1))
        basis = cosine_basis(self.frames, local.dtype, local.device)
        places = basis @ local
        mean = middle(places, mask)
        return h, self.pos(places - mean) + mean, self.vel(basis @ vel)


class Reasoning(nn.Module):
    """Which kind of interaction joins each ordered pair of agents: one round of messages, then a guess for each pair."""

    def __init__(self, features: int, channels: int, categories: int, generator: Generator | None) -> None:
        super().__init__()
        self.distances = mlp([2 * channels, features], last=True, generator=generator)
        self.message = PairLayer(features, features, features, generator)
        self.sent = mlp([features, features], last=True, generator=generator)
        self.node = mlp([2 * features, features, features], generator=generator)
        self.pair = PairLayer(features, features, features, generator)
        self.logits = mlp([features, features, categories], generator=generator)

    def forward(self, h: Tensor, pos: Tensor, vel: Tensor, pairs: Tensor) -> Tensor:
        """Logits ``[..., N, N, categories]``."""
        apart = self.distances(lengths(differences(torch.cat([pos, vel], -2))))
        received = (self.sent(self.message(h, apart)) * pairs).sum(-2)
        h = h + self.node(torch.cat([h, received], -1))
        return self.logits(self.pair(h, apart))


class MotionLayer(nn.Module):
    """One feature layer of `EqMotion` (section 3.4 of the paper): vectors and invariants of agents, informed by all others.

    Args:
        features: invariants per agent.
        channels: vectors per agent.
        categories: kinds of interaction.
        dim: dimension of space.
        generator: source of the initial parameters.

    Attributes:
        symmetry: O(dim) on ``(h, pos, vel, c)`` to ``(h, pos)``; shifts of pos by one vector for all pass through too.
    """

    def __init__(
        self, features: int, channels: int, categories: int, *, dim: int = 3, generator: Generator | None = None
    ) -> None:
        super().__init__()
        check_sizes(features=features, channels=channels, categories=categories)
        self.features, self.categories = features, categories
        self.first = PairLayer(features, channels, (1 + categories) * features, generator)
        self.edge = mlp([features, features], last=True, generator=generator)
        # All categories at once: a map of the features of each, weighted by its probability, with one bias each.
        self.by_category = mlp([categories * features + categories, features], last=True, generator=generator)
        self.factor = mlp([features, channels], generator=generator)
        self.attention = mlp([features, features, channels], generator=generator)
        self.velocity = VectorLinear(channels, channels, dim=dim, generator=generator)
        self.cut = VectorReLU(channels, dim=dim, generator=generator)
        self.node = mlp([2 * features, features, features], generator=generator)
        self.symmetry = Symmetry(
            O(dim), input=("invariant", "vectors", "vectors", "invariant"), output=("invariant", "vectors")
        )

    def forward(
        self,
        h: Tensor | tuple[Tensor, ...],
        pos: Tensor | None = None,
        vel: Tensor | None = None,
        c: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Invariants and vectors after the layer.

        Args:
            h: invariants ``[..., N, features]``, or the tuple ``(h, pos, vel, c)``.
            pos: vectors ``[..., N, channels, n]``.
            vel: vectors from velocities, in the shape of pos.
            c: probabilities of the kinds of interaction ``[..., N, N, categories]``.
            mask: agents that exist, bool ``[..., N]``.

        Raises:
            ShapeError: something is missing.
        """
        if isinstance(h, tuple):
            return self(*h, mask=mask)
        if pos is None or vel is None or c is None:
            raise ShapeError(
                "pos, vel or c is missing; pass h [..., N, F], pos and vel [..., N, C, n] and c [..., N, N, K]"
            )
        pairs = pairs_of(h, mask)
        apart = differences(pos)
        hidden = self.first(h, lengths(apart))
        edge = self.edge(hidden[..., : self.features]) * pairs
        weighted = hidden[..., self.features :].unflatten(-1, (self.categories, self.features)) * c[..., None]
        factor = self.factor(self.by_category(torch.cat([weighted.flatten(-2), c], -1))) * pairs

        x: Tensor = pos + self.attention(h)[..., None] * (pos - middle(pos, mask))
        x = x + (factor * apart).sum(-2).movedim(0, -1) + self.velocity(vel)
        centre = middle(x, mask)
        x = self.cut(x - centre) + centre
        return h + self.node(torch.cat([h, edge.sum(-2)], -1)), x


class EqMotion(nn.Module):
    """The past of agents to their future, equivariant under motions of space (Xu et al., CVPR 2023).

    Times become cosine waves, waves become channels of vectors, and these move under layers whose coefficients see
    invariants alone: lengths, turning angles, distances, and a guess of how each pair interacts. Reflections are among the
    symmetries, so what only a mirror image would tell apart (chirality) is beyond this network.

    Args:
        past, future: numbers of frames in and out; past at least 2.
        dim: dimension of space.
        features: width of the invariants.
        channels: number of vectors per agent.
        layers: number of `MotionLayer`.
        categories: kinds of interaction between which `interactions` decides.
        in_features: invariant numbers per agent (kind of atom, joint) besides its motion.
        masked: whether inputs have a mask of the agents that exist.
        samples: number of predictions, by heads that share all before them; train with the best of them.
        temperature: of the softmax over categories.
        extrapolate: predict the difference from going on with the last step, instead of that from the centre of the past,
            as the paper does.
        memory: frames, the last ones, that the layers see; all by default. `interactions` always sees all. With one or two,
            what the past tells about the agents reaches the future through the categories alone, which so become the
            interaction graph (the encoder and decoder of Kipf et al. 2018 share the past in this way; the paper does not).
        noise: in training, factor of Gumbel noise on the logits of the categories, from torch's global stream as for dropout
            (Jang, Gu and Poole 2017). It makes values in between useless, so that categories become sharp. Where nothing
            is learned yet it hides what is to be learned: raise the attribute `noise` during training.
        generator: source of the initial parameters.

    Attributes:
        symmetry: E(dim) on dicts of ``pos`` and ``vel``, with ``x`` and ``mask`` where the network has them, to points.

    Raises:
        ErlangenError: a size is not positive, past is below 2, memory is not in 1..past, or the temperature is not positive.

    >>> net = EqMotion(10, 5, features=16, channels=8, layers=2)
    >>> pos = torch.randn(4, 3, 10, 3)  # 4 scenes of 3 agents in 10 frames
    >>> net({"pos": pos, "vel": finite_velocity(pos)}).shape
    torch.Size([4, 3, 5, 3])
    """

    def __init__(
        self,
        past: int,
        future: int,
        *,
        dim: int = 3,
        features: int = 64,
        channels: int = 64,
        layers: int = 4,
        categories: int = 2,
        in_features: int = 0,
        masked: bool = False,
        samples: int = 1,
        temperature: float = 1.0,
        extrapolate: bool = False,
        memory: int | None = None,
        noise: float = 0.0,
        generator: Generator | None = None,
    ) -> None:
        super().__init__()
        check_sizes(future=future, dim=dim, features=features, channels=channels, layers=layers, categories=categories)
        check_sizes(samples=samples)
        if past < 2:
            raise ErlangenError(f"past = {past}; an agent needs 2 frames or more to have a velocity that turns")
        if memory is not None and not 1 <= memory <= past:
            raise ErlangenError(f"memory = {memory}; give 1 to past = {past} frames, or None for all")
        if in_features < 0 or not temperature > 0:
            raise ErlangenError(f"in_features = {in_features} and temperature = {temperature}: give >= 0 and > 0")
        self.past, self.future, self.dim, self.samples = past, future, dim, samples
        self.in_features, self.categories = in_features, categories
        self.masked, self.extrapolate = masked, extrapolate
        self.temperature, self.noise = temperature, noise
        sizes = (features, channels, dim, in_features)
        self.reader = Reader(past if memory is None else memory, *sizes, generator)
        self.whole = None if memory is None else Reader(past, *sizes, generator)
        self.reasoning = Reasoning(features, channels, categories, generator)
        self.layers = nn.ModuleList(
            MotionLayer(features, channels, categories, dim=dim, generator=generator) for _ in range(layers)
        )
        self.write = VectorLinear(channels, samples * future, dim=dim, generator=generator)
        actions = {"pos": "points", "vel": "vectors"}
        actions |= {"x": "invariant"} if in_features else {}
        actions |= {"mask": "invariant"} if masked else {}
        self.symmetry = Symmetry(E(dim), input=actions, output="points")

    def forward(self, x: dict[str, Tensor], categories: Tensor | None = None) -> Tensor:
        """Positions ``[..., N, future, dim]``; with several samples ``[..., samples, N, future, dim]``.

        Args:
            x: ``pos`` and ``vel [..., N, past, dim]`` in any units of time, the same for all; ``x [..., N, in_features]``;
                ``mask`` bool ``[..., N]``. Agents that do not exist need finite numbers and get meaningless ones.
            categories: kinds of interaction that are known, int64 ``[..., N, N]``, instead of guesses.

        Raises:
            ShapeError: keys or shapes do not fit.
            NotFiniteError: a number is NaN or infinite.
            DtypeError: `pos` is not floating, the mask not bool, or `categories` not int64.
            UnknownNameError: a category is not in 0..categories - 1.
        """
        local, centre, vel, mask = self._prepared(x)
        read = self.reader(local, vel, x.get("x"), mask)
        if categories is not None:
            c = self._known(categories, read[0])
        elif self.whole is None:
            c = self._guess(read, mask)
        else:
            c = self._guess(self.whole(local, vel, x.get("x"), mask), mask)
        h, pos, vel = read
        for layer in self.layers:
            h, pos = layer(h, pos, vel, c, mask)
        mean = middle(pos, mask)
        waves = (self.write(pos - mean) + mean).unflatten(-2, (self.samples, self.future)).movedim(-3, -4)
        moved = cosine_basis(self.future, waves.dtype, waves.device).mT @ waves
        if self.extrapolate:
            moved = moved + straight(local, self.future)[..., None, :, :, :]
        # Centres are added in float64, so that far away places cost no digits.
        found = (moved.double() + centre[..., None, :, :, :]).to(local.dtype)
        return found.squeeze(-4) if self.samples == 1 else found

    def interactions(self, x: dict[str, Tensor]) -> Tensor:
        """Probabilities ``[..., N, N, categories]`` of the kinds of interaction of agent i (first) with j, invariant.

        Logits have no activation (the authors' code has a SiLU there, which bounds them from below). What stands for an
        agent with itself has no meaning, and which category means what is settled by training. See `forward`.
        """
        local, _, vel, mask = self._prepared(x)
        reader = self.reader if self.whole is None else self.whole
        return self._guess(reader(local, vel, x.get("x"), mask), mask)

    def _guess(self, read: tuple[Tensor, Tensor, Tensor], mask: Tensor | None) -> Tensor:
        h, pos, vel = read
        logits = self.reasoning(h, pos, vel, pairs_of(h, mask))
        if self.noise and self.training:
            logits = logits - self.noise * torch.empty_like(logits).exponential_().log()
        return torch.softmax(logits / self.temperature, -1)

    def _known(self, categories: Tensor, h: Tensor) -> Tensor:
        """One-hot probabilities."""
        check_labels(categories, self.categories, (*h.shape[:-1], h.shape[-2]))
        return F.one_hot(categories, self.categories).to(h.dtype)

    def _prepared(self, x: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """Positions about the centre, the centre ``[..., 1, 1, n]`` in float64, velocities and mask; after checks."""
        self._check(x)
        pos, vel, mask = x["pos"], x["vel"], x.get("mask")
        if mask is not None:
            exists = mask[..., None, None]
            pos, vel = torch.where(exists, pos, 0.0), torch.where(exists, vel, 0.0)
        double = pos.double()
        # The centre of what the layers see, so that it tells nothing of frames before.
        frames = double[..., -self.reader.frames :, :].mean(-2, keepdim=True)
        centre = frames.sum(-3, keepdim=True) / count(pos, mask).double()
        local = (double - centre).to(pos)
        return (local if mask is None else torch.where(mask[..., None, None], local, 0.0)), centre, vel, mask

    def _check(self, x: dict[str, Tensor]) -> None:
        wanted = {"pos", "vel"} | ({"x"} if self.in_features else set()) | ({"mask"} if self.masked else set())
        if not isinstance(x, dict) or set(x) != wanted:
            given = sorted(x) if isinstance(x, dict) else type(x).__name__
            raise ShapeError(f"x is {given}; this network reads a dict of {sorted(wanted)}")
        pos = x["pos"]
        check_floating(pos, "pos")
        if pos.dim() < 3 or pos.shape[-2:] != (self.past, self.dim) or pos.shape[-3] == 0:
            raise ShapeError(f"pos has shape {tuple(pos.shape)}; pass [..., N, {self.past}, {self.dim}], N at least 1")
        agents = pos.shape[:-2]
        for key, shape in (("vel", pos.shape), ("x", (*agents, self.in_features)), ("mask", agents)):
            if key in x and x[key].shape != shape:
                raise ShapeError(
                    f"{key} has shape {tuple(x[key].shape)}; with pos {tuple(pos.shape)} pass {tuple(shape)}"
                )
        if self.masked and x["mask"].dtype != torch.bool:
            raise DtypeError(f"mask has dtype {x['mask'].dtype}; pass bool, True for agents that exist")
        if not traced():
            for key, value in x.items():
                bad = ~torch.isfinite(value)
                if bool(bad.any()):
                    raise NotFiniteError(
                        f"{key} is not finite at index {first_index(bad)}; remove the scene, or fill agents that are absent "
                        "with zeros and pass a mask (masked=True)"
                    )


def reasoning_accuracy(probabilities: Tensor, labels: Tensor, mask: Tensor | None = None) -> float:
    """Share of ordered pairs whose category is guessed right, under the best naming of the categories.

    Categories are found without labels, so their numbers mean nothing: the largest share over all permutations counts.

    Args:
        probabilities: ``[..., N, N, K]``, K at most 6; the largest counts.
        labels: true categories, int64 ``[..., N, N]`` in 0..K - 1; the diagonal does not count.
        mask: agents that exist, bool ``[..., N]``.

    Raises:
        ShapeError: shapes do not fit. DtypeError: `labels` is not int64. UnknownNameError: a label is outside its range.
        ErlangenError: more than 6 categories, or no pair.
    """
    categories = probabilities.shape[-1]
    if categories > 6:
        raise ErlangenError(f"probabilities has {categories} categories; all permutations are tried, so at most 6")
    check_labels(labels, categories, probabilities.shape[:-1])
    counted = pairs_of(probabilities[..., 0], mask)[..., 0].bool().expand_as(labels)
    if not bool(counted.any()):
        raise ErlangenError("there is no pair of two agents; pass scenes with at least two")
    seen = categories * labels[counted] + probabilities.argmax(-1)[counted]
    table = torch.bincount(seen, minlength=categories**2).reshape(categories, categories)
    hits = (sum(int(table[i, p[i]]) for i in range(categories)) for p in itertools.permutations(range(categories)))
    return max(hits) / int(table.sum())


def check_labels(labels: Tensor, categories: int, shape: tuple[int, ...]) -> None:
    """Raise unless labels are int64, of this shape and in range."""
    if labels.dtype != torch.int64:
        raise DtypeError(f"categories have dtype {labels.dtype}; pass int64")
    if labels.shape != shape:
        raise ShapeError(f"categories have shape {tuple(labels.shape)}; pass {tuple(shape)}")
    if not traced() and bool(((labels < 0) | (labels >= categories)).any()):
        raise UnknownNameError(
            f"categories range from {int(labels.min())} to {int(labels.max())}; known are 0 to {categories - 1}"
        )


def traced() -> bool:
    """Whether values cannot be looked at."""
    return torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active()


def straight(pos: Tensor, future: int) -> Tensor:
    """Positions ``[..., future, n]`` of agents that repeat their last step."""
    steps = torch.arange(1, future + 1, device=pos.device, dtype=pos.dtype)[:, None]
    return pos[..., -1:, :] + steps * (pos[..., -1:, :] - pos[..., -2:-1, :])


def count(x: Tensor, mask: Tensor | None) -> Tensor:
    """Number of agents of ``[..., N, C, n]`` that exist, ``[..., 1, 1, 1]``; 1 where there are none."""
    if mask is None:
        return x.new_tensor(x.shape[-3])
    return mask.sum(-1)[..., None, None, None].clamp(min=1).to(x.dtype)


def middle(x: Tensor, mask: Tensor | None) -> Tensor:
    """The mean ``[..., 1, 1, n]`` of vectors ``[..., N, C, n]`` over channels and agents that exist."""
    if mask is None:
        return x.mean((-3, -2), keepdim=True)
    kept = torch.where(mask[..., None, None], x, 0.0)
    return kept.mean(-2, keepdim=True).sum(-3, keepdim=True) / count(x, mask)


def differences(x: Tensor) -> Tensor:
    """Vectors between agents ``[n, ..., N, N, C]``, coordinates first, of vectors ``[..., N, C, n]``."""
    coordinates = x.movedim(-1, 0).contiguous()  # long rows: sums over a last axis of 3 are slow
    return coordinates[..., :, None, :] - coordinates[..., None, :, :]


def lengths(apart: Tensor) -> Tensor:
    """Lengths ``[..., N, N, C]`` of `differences`, with gradient 0 where they are 0, as for an agent and itself.

    Features stay far from overflow, so that this does without the scaling of `safe_norm`, which takes most of its time.
    """
    squares = apart.square().sum(0)
    zero = squares == 0
    return torch.where(zero, 0.0, torch.where(zero, 1.0, squares).sqrt())


def pairs_of(h: Tensor, mask: Tensor | None) -> Tensor:
    """1 for pairs of two different agents that exist, ``[..., N, N, 1]`` or ``[N, N, 1]``, for h ``[..., N, F]``."""
    pairs = ~torch.eye(h.shape[-2], dtype=torch.bool, device=h.device)
    if mask is not None:
        pairs = pairs & mask[..., :, None] & mask[..., None, :]
    return pairs[..., None].to(h.dtype)
