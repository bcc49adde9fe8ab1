"""EqMotion: the past of interacting agents in, their future out, moved as they are.

Xu, Tan, Tan, Chen, Wang and Wang (2023), sections 3.2 to 3.5.
"""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from erlangen.errors import (
    DtypeError,
    ErlangenError,
    NotFiniteError,
    ShapeError,
    check_floating,
    check_integer,
    check_sizes,
    first_index,
)
from erlangen.groups import E, O
from erlangen.nn import VectorLinear, VectorReLU, mlp
from erlangen.symmetry import Symmetry
from erlangen.systems.motion.eqmotion._parts import (
    PairLayer,
    Reader,
    Reasoning,
    check_labels,
    cosine_basis,
    count,
    differences,
    lengths,
    middle,
    pairs_of,
    straight,
)
from erlangen.tracing import is_traced


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
        ErlangenError: a size is not positive, past is below 2, memory is not in 1..past, the temperature is not positive, or
            noise is negative.

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
        check_integer("past", past, 2, hint="an agent needs 2 frames or more to have a velocity that turns")
        if memory is not None and not 1 <= memory <= past:
            raise ErlangenError(f"memory = {memory}; give 1 to past = {past} frames, or None for all")
        if in_features < 0 or noise < 0 or not temperature > 0:
            raise ErlangenError(
                f"in_features = {in_features}, noise = {noise} and temperature = {temperature}: give >= 0, >= 0 and > 0"
            )
        self.past, self.future, self.dim, self.samples = past, future, dim, samples
        self.in_features, self.categories = in_features, categories
        self.masked, self.extrapolate = masked, extrapolate
        self.temperature, self.noise = temperature, noise
        sizes = (features, channels, dim, in_features)
        self.reader = Reader(past if memory is None else memory, *sizes, generator)
        self.whole = None if memory is None else Reader(past, *sizes, generator)
        self.reasoning: nn.Module = Reasoning(features, channels, categories, generator)
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
        if not is_traced():
            for key, value in x.items():
                bad = ~torch.isfinite(value)
                if bool(bad.any()):
                    raise NotFiniteError(
                        f"{key} is not finite at index {first_index(bad)}; remove the scene, or fill agents that are absent "
                        "with zeros and pass a mask (masked=True)"
                    )


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
        self.features, self.channels, self.categories = features, channels, categories
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
            ShapeError: something is missing, or shapes do not fit.
        """
        if isinstance(h, tuple):
            return self(*h, mask=mask)
        if pos is None or vel is None or c is None:
            raise ShapeError(
                "pos, vel or c is missing; pass h [..., N, F], pos and vel [..., N, C, n] and c [..., N, N, K]"
            )
        agents = (*h.shape[:-1], self.channels)
        if (
            h.shape[-1] != self.features
            or not pos.shape == vel.shape == (*agents, pos.shape[-1])
            or c.shape != (*h.shape[:-1], h.shape[-2], self.categories)
        ):
            raise ShapeError(
                f"h, pos, vel and c have shapes {', '.join(str(tuple(t.shape)) for t in (h, pos, vel, c))}; pass [..., N, "
                f"{self.features}], twice [..., N, {self.channels}, n] and [..., N, N, {self.categories}]"
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


def finite_velocity(pos: Tensor) -> Tensor:
    """Differences of positions ``[..., T, n]`` from frame to frame, of the same shape; the first is the second once more.

    Raises:
        ShapeError: fewer than two frames.
    """
    if pos.dim() < 2 or pos.shape[-2] < 2:
        raise ShapeError(f"pos has shape {tuple(pos.shape)}; a velocity needs [..., T, n] with T at least 2")
    steps = pos.diff(dim=-2)
    return torch.cat([steps[..., :1, :], steps], -2)


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
