"""Diffusion of whole trajectories, freely or from the frames before, and the reference around which noise is added."""

from __future__ import annotations

import warnings
from typing import Any, Literal, cast, get_args

import torch
from torch import Generator, Tensor, nn

from erlangen.errors import ErlangenError, ErlangenWarning, ShapeError, UnknownNameError, check_finite, check_sizes
from erlangen.generate import CenteredGaussian, Diffusion
from erlangen.groups import E
from erlangen.symmetry import Symmetry
from erlangen.systems.motion._geotdm_network import EGTN, check_motion

Target = Literal["velocity", "noise"]
"""What the network is trained to give. See `GeoTDM`."""
REFERENCE_STEPS = 1000
"""Steps are told to the network as if there were so many."""


class CentreOfMass(nn.Module):
    """A reference without parameters: every particle in every frame at the mean of the frames before.

    Args:
        frames: frames of the reference.

    Attributes:
        symmetry: E(3) on dicts of ``past``, to points.

    Raises:
        ErlangenError: `frames` is not positive.

    >>> CentreOfMass(10)({"past": torch.randn(8, 5, 4, 3)}).shape
    torch.Size([8, 10, 4, 3])
    """

    def __init__(self, frames: int) -> None:
        super().__init__()
        check_sizes(frames=frames)
        self.frames = frames
        self.symmetry = Symmetry(E(3), input={"past": "points"}, output="points")

    def forward(self, x: dict[str, Tensor]) -> Tensor:
        """``[B, frames, N, 3]`` of ``past [B, T, N, 3]``; the mean is that of particles that exist."""
        check_motion(x, "past")
        past = x["past"]
        weight = past.new_ones(len(past), 1, past.shape[2], 1)
        if "mask" in x:
            weight = x["mask"][:, None, :, None].to(past.dtype)
        count = (weight.sum((1, 2), keepdim=True) * past.shape[1]).clamp(min=1)
        centre = (past * weight).sum((1, 2), keepdim=True) / count
        return centre.expand(-1, self.frames, past.shape[2], -1)


class LearnedPrior(nn.Module):
    """A reference that is learned with the network: affine combinations of the frames before, moved by a small `EGTN`.

    The weight of frame t of T in frame s of the reference is the mean of the network's features at t, times a parameter
    ``gamma_s``; that of the last frame makes the sum one, so the reference moves with the frames.

    Args:
        frames: frames of the reference.
        node_features, edge_features, features, layers, generator: of the network, see `EGTN`.

    Attributes:
        symmetry: E(3) on dicts of ``past`` and the invariant rest, to points.

    Raises:
        ErlangenError: a size is out of range.

    >>> LearnedPrior(10, features=16)({"past": torch.randn(8, 5, 4, 3)}).shape
    torch.Size([8, 10, 4, 3])
    """

    def __init__(
        self,
        frames: int,
        node_features: int = 0,
        edge_features: int = 0,
        *,
        features: int = 32,
        layers: int = 2,
        generator: Generator | None = None,
    ) -> None:
        super().__init__()
        check_sizes(frames=frames)
        self.frames = frames
        self.net = EGTN(node_features, edge_features, features=features, layers=layers, generator=generator)
        self.gamma = nn.Parameter(torch.ones(frames))
        self.symmetry = Symmetry(E(3), input=_actions({"past": "points"}, self.net), output="points")

    def forward(self, x: dict[str, Tensor]) -> Tensor:
        """``[B, frames, N, 3]`` of ``past [B, T, N, 3]``, with ``node``, ``edge_attr`` and ``mask`` as for the network.

        Raises:
            ShapeError: something is missing or does not fit.
        """
        weights, places = self.combination(x)
        last = places[:, -1:]
        # About the last frame, so that far away places cost no digits: the weights sum to one.
        return last + torch.einsum("btsn,btnd->bsnd", weights[:, :-1], places[:, :-1] - last)

    def combination(self, x: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Weights ``[B, T, frames, N]``, which sum to one over T, and the moved frames ``[B, T, N, 3]``."""
        check_motion(x, "past")
        h, moved = self.net.moved({**_features(x), "pos": x["past"]})
        free = h[:, :-1].mean(-1)[:, :, None] * self.gamma[:, None]
        return torch.cat([free, 1 - free.sum(1, keepdim=True)], 1), x["past"] + moved


class GeoTDM(nn.Module):
    """Geometric trajectory diffusion (Han et al. 2024): whole trajectories out of noise, freely or as a continuation.

    Without `prior` noise and trajectories live where the mean over all frames and particles is zero, so that the density
    knows no place and no direction. With it the chain runs around the reference that `prior` makes of the frames before,
    and the density moves with these.

    With the target "noise", the paper's, the network gives the noise. With "velocity" it gives ``v = sqrt(abar) noise -
    sqrt(1 - abar) x_0`` (Salimans and Ho 2022), and the noise is ``sqrt(abar) v + sqrt(1 - abar) x_t``: as equivariant, and
    errors are not magnified where hardly any signal is left, as they are by short chains otherwise.

    Args:
        net: an `EGTN` or another module of the same call; in conditional mode it reads all frames, those before first,
            and one more number per particle, whether the frame is known.
        betas: variances of the steps, such as those of `erlangen.generate.cosine_betas`.
        frames: frames that are generated.
        prior: module that makes the reference ``[B, frames, N, 3]`` of a dict with ``past``, such as `CentreOfMass` or
            `LearnedPrior`; None for the unconditional mode.
        target: see above.

    Attributes:
        diffusion: the chain, `erlangen.generate.Diffusion`.
        symmetry: E(3) on dicts of ``pos``, ``step`` and, where they are read, ``past``, ``node`` and ``edge_attr``, to
            vectors; only with a `net` that has a symmetry.

    Raises:
        ErlangenError: `frames` is not positive, or not those of the prior.
        UnknownNameError: `target` is not known.

    >>> from erlangen.generate import cosine_betas
    >>> model = GeoTDM(EGTN(1, features=16), cosine_betas(10), 6, CentreOfMass(6))
    >>> model.sample({"past": torch.randn(8, 3, 5, 3)}).shape  # 3 frames are known, 6 follow
    torch.Size([8, 6, 5, 3])
    """

    def __init__(
        self, net: nn.Module, betas: Tensor, frames: int, prior: nn.Module | None = None, *, target: Target = "velocity"
    ) -> None:
        super().__init__()
        check_sizes(frames=frames)
        if target not in get_args(Target):
            raise UnknownNameError(f"target = {target!r}; known targets are {', '.join(get_args(Target))}")
        if prior is not None and cast("Any", prior).frames != frames:
            raise ErlangenError(
                f"frames = {frames}, but the prior makes {cast('Any', prior).frames}; build it for {frames}"
            )
        self.net, self.prior, self.frames, self.target = net, prior, frames, target
        self.diffusion = Diffusion(betas, CenteredGaussian((-3, -2)) if prior is None else None)
        self._told_centre = False
        if isinstance(net, EGTN):
            moving = {"pos": "points", "step": "invariant"} | ({} if prior is None else {"past": "points"})
            self.symmetry = Symmetry(E(3), input=_actions(moving, net, int(prior is not None)), output="vectors")

    # --- the network in the chain -------------------------------------------------------------------------------------
    def forward(self, x: dict[str, Tensor]) -> Tensor:
        """The noise ``[B, frames, N, 3]`` that is seen in noisy trajectories.

        Args:
            x: ``pos [B, frames, N, 3]``, noisy; ``step``, int64 ``[B]``; in conditional mode ``past [B, T, N, 3]``;
                ``node [B, N, F]`` and ``edge_attr [B, N, N, F]`` where the network reads them; optionally ``mask``, bool
                ``[B, N]``.

        Raises:
            ShapeError: something is missing or does not fit.
        """
        self._check(x)
        reference = self.reference(x)
        return self._noise(self._local(x, reference), reference, x["step"], x)

    def reference(self, x: dict[str, Tensor]) -> Tensor | None:
        """The reference ``[B, frames, N, 3]`` of the frames before; None in unconditional mode."""
        return None if self.prior is None else self.prior({**_features(x), "past": x["past"]})

    def _local(self, x: dict[str, Tensor], reference: Tensor | None) -> Tensor:
        """Where the chain runs: about the reference, or about the mean."""
        pos = x["pos"] if reference is None else x["pos"] - reference
        return self.diffusion.project(pos, _mask(x))

    def _answer(self, local: Tensor, reference: Tensor | None, step: Tensor, x: dict[str, Tensor]) -> Tensor:
        """What the network says of noisy trajectories about the reference."""
        told = step.to(local.dtype) * (REFERENCE_STEPS / self.diffusion.steps)
        seen = {**_features(x), "step": told, "pos": local if reference is None else local + reference}
        if reference is not None:
            past = x["past"]
            seen["pos"] = torch.cat([past, seen["pos"]], 1)
            known = torch.arange(seen["pos"].shape[1], device=past.device) < past.shape[1]
            known = known.to(past.dtype)[:, None, None].expand(len(past), -1, past.shape[2], 1)
            node = [x["node"][:, None].expand(-1, known.shape[1], -1, -1)] if "node" in x else []
            seen["node"] = torch.cat([*node, known], -1)
        return self.diffusion.project(self.net(seen)[:, -self.frames :], _mask(x))

    def _noise(self, local: Tensor, reference: Tensor | None, step: Tensor, x: dict[str, Tensor]) -> Tensor:
        answer = self._answer(local, reference, step, x)
        if self.target == "noise":
            return answer
        kept = self._kept(step, local)
        return kept.sqrt() * answer + (1 - kept).sqrt() * local

    def _kept(self, step: Tensor, like: Tensor) -> Tensor:
        return self.diffusion.alpha_bars.to(like.device)[step].to(like.dtype).view(-1, 1, 1, 1)

    # --- training and likelihood --------------------------------------------------------------------------------------
    def errors(self, x: dict[str, Tensor], generator: Generator | None = None) -> Tensor:
        """Mean squared errors ``[B]`` of the network at random steps, with random noise: what training minimises.

        Args:
            x: ``pos [B, frames, N, 3]``, data; else as `forward`, without ``step``.
            generator: source of steps and noise.

        Raises:
            ShapeError: something is missing or does not fit.
            NotFiniteError: a position is NaN or infinite.

        Warns:
            ErlangenWarning: in unconditional mode, once, where data are not centred; they are, before they are used.
        """
        start, reference = self._start(x)
        step = self.diffusion.draw_steps(len(start), generator).to(start.device)
        noise = self.diffusion.noise_like(start, generator, _mask(x))
        answer = self._answer(self.diffusion.diffuse(start, step, noise), reference, step, x)
        kept = self._kept(step, start)
        wanted = noise if self.target == "noise" else kept.sqrt() * noise - (1 - kept).sqrt() * start
        squares = (answer - wanted).square().flatten(1).sum(1)
        exist = start.shape[2] if "mask" not in x else x["mask"].sum(1).clamp(min=1)
        return squares / (3 * self.frames * exist)

    @torch.no_grad()
    def bound_terms(self, x: dict[str, Tensor], generator: Generator | None = None) -> Tensor:
        """Terms ``[B, T + 1]`` of the bound on the negative log-likelihood, see `Diffusion.bound_terms`. Arguments as `errors`.

        Densities are per volume of the subspace in unconditional mode, and given the frames before otherwise.
        """
        start, reference = self._start(x)
        return self.diffusion.bound_terms(
            lambda local, step: self._noise(local, reference, step, x), start, generator=generator, mask=_mask(x)
        )

    def _start(self, x: dict[str, Tensor]) -> tuple[Tensor, Tensor | None]:
        """Data about the reference, and the reference."""
        self._check(x)
        for name in ("pos", "past"):
            if name in x:
                check_finite(x[name], name)
        reference = self.reference(x)
        start = self._local(x, reference)
        if reference is None and not self._told_centre:
            away = float((x["pos"] - start)[_exist(x)].abs().max()) if start.numel() else 0.0
            if away > 1e-4 * max(1.0, float(start.abs().max())):
                self._told_centre = True
                warnings.warn(
                    f"pos is not centred: means over frames and particles reach {away:.3g}; the unconditional mode subtracts "
                    "them. Do so before, or condition on frames if places matter",
                    ErlangenWarning,
                    stacklevel=3,
                )
        return start, reference

    # --- sampling -----------------------------------------------------------------------------------------------------
    @torch.no_grad()
    def sample(
        self,
        x: dict[str, Tensor] | None = None,
        *,
        shape: tuple[int, int] | None = None,
        steps: int | None = None,
        eta: float = 1.0,
        generator: Generator | None = None,
        noise: Tensor | None = None,
    ) -> Tensor:
        """Trajectories ``[B, frames, N, 3]``, one for each system.

        Args:
            x: ``past [B, T, N, 3]`` in conditional mode; ``node``, ``edge_attr`` and ``mask`` as for `forward`.
            shape: B and N, in unconditional mode; without it those of ``node`` or of `noise`.
            steps, eta, generator, noise: see `Diffusion.sample`; noise is ``[steps, B, frames, N, 3]``.

        Raises:
            ShapeError: something is missing or does not fit.
            NotFiniteError: a known position is NaN or infinite.
            ErlangenError: `steps` or `eta` is out of range.
        """
        x = {} if x is None else x
        like = next(self.parameters())
        if self.prior is not None:
            self._check_past(x)
            check_finite(x["past"], "past")
            like, shape = x["past"], (x["past"].shape[0], x["past"].shape[2])
        elif shape is None and ("node" in x or noise is not None):
            shape = (x["node"].shape[0], x["node"].shape[1]) if noise is None else (noise.shape[1], noise.shape[3])
        if shape is None:
            raise ShapeError("an unconditional sample needs shape=(systems, particles), or node features")
        reference = self.reference(x)
        local = self.diffusion.sample(
            lambda local, step: self._noise(local, reference, step, x),
            (shape[0], self.frames, shape[1], 3),
            steps=steps,
            eta=eta,
            generator=generator,
            noise=noise,
            mask=_mask(x),
            dtype=like.dtype,
            device=like.device,
        )
        return local if reference is None else local + reference

    # --- checks -------------------------------------------------------------------------------------------------------
    def _check(self, x: dict[str, Tensor]) -> None:
        check_motion(x, "pos")
        if x["pos"].shape[1] != self.frames:
            raise ShapeError(f"pos has {x['pos'].shape[1]} frames, but the model generates {self.frames}; pass as many")
        if self.prior is not None:
            self._check_past(x)
            if (len(x["past"]), x["past"].shape[2]) != (len(x["pos"]), x["pos"].shape[2]):
                raise ShapeError(
                    f"past {tuple(x['past'].shape)} and pos {tuple(x['pos'].shape)} are of different systems; their first "
                    "and third axes must agree"
                )

    def _check_past(self, x: dict[str, Tensor]) -> None:
        if "past" not in x or (x["past"].dim() == 4 and x["past"].shape[1] == 0):
            raise ShapeError(
                "no frame is known: the conditional mode needs past [B, T, N, 3] with T at least 1; without prior the model "
                "is unconditional"
            )
        check_motion(x, "past")


class DenoisingLoss(nn.Module):
    """What `erlangen.fit` trains: the errors of a `GeoTDM` on data, with steps and noise from torch's global stream.

    >>> from erlangen.generate import cosine_betas
    >>> DenoisingLoss(GeoTDM(EGTN(features=16), cosine_betas(10), 6))({"pos": torch.zeros(8, 6, 5, 3)}).shape
    torch.Size([8])
    """

    def __init__(self, model: GeoTDM) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: dict[str, Tensor]) -> Tensor:
        """Errors ``[B]``, see `GeoTDM.errors`."""
        return self.model.errors(x)


def _actions(moving: dict[str, str], net: EGTN, told: int = 0) -> dict[str, Any]:
    """Actions on what moves and on the features that the network reads; `told` of them it gets from elsewhere."""
    there = {"node": net.node_features > told, "edge_attr": net.edge_features > 0}
    return moving | {name: "invariant" for name, read in there.items() if read}


def _features(x: dict[str, Tensor]) -> dict[str, Tensor]:
    """What does not change along the chain."""
    return {name: x[name] for name in ("node", "edge_attr", "mask") if name in x}


def _mask(x: dict[str, Tensor]) -> Tensor | None:
    """The mask of particles, for the kernel, which has frames."""
    return x["mask"][:, None] if "mask" in x else None


def _exist(x: dict[str, Tensor]) -> Tensor:
    """Which positions ``[B, T, N]`` are of particles that exist."""
    shape = x["pos"].shape[:3]
    mask = _mask(x)
    return torch.ones(shape, dtype=torch.bool, device=x["pos"].device) if mask is None else mask.expand(shape)
