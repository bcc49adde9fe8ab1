"""Diffusion of whole trajectories, freely or from the frames before, and the reference around which noise is added."""

from __future__ import annotations

import math
import warnings
from typing import Any, Literal, cast, get_args

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from erlangen.errors import ErlangenError, ErlangenWarning, ShapeError, UnknownNameError, check_finite, check_sizes
from erlangen.generate import CenteredGaussian, Diffusion
from erlangen.groups import E
from erlangen.symmetry import Symmetry
from erlangen.systems.motion.geotdm._layers import SMALLEST
from erlangen.systems.motion.geotdm._network import EGTN, check_motion
from erlangen.systems.motion.geotdm._priors import actions_of, features_of

Target = Literal["velocity", "noise"]
"""What the network is trained to give. See `GeoTDM`."""
SMALLEST_SHARE = 1e-3
"""Smallest variance over the largest of what frames combine to, in the units of `GeoTDM.adapt`."""
REFERENCE_STEPS = 1000
"""Steps are told to the network as if there were so many."""


class GeoTDM(nn.Module):
    """Geometric trajectory diffusion (Han et al. 2024): whole trajectories out of noise, freely or as a continuation.

    Without `prior` noise and trajectories live where the mean over all frames and particles is zero, so that the density
    knows no place and no direction. With it the chain runs around the reference that `prior` makes of the frames before,
    and the density moves with these.

    With the target "noise", the paper's, the network gives the noise. With "velocity" it gives ``v = sqrt(abar) noise -
    sqrt(1 - abar) x_0`` (Salimans and Ho 2022), and the noise is ``sqrt(abar) v + sqrt(1 - abar) x_t``: as equivariant, and
    errors are not magnified where hardly any signal is left, as they are by short chains otherwise.

    Frames that follow each other are alike, and white noise hides what differs long before it hides the whole. After
    `adapt` the chain runs in units in which what frames combine to has the variance one, whatever the combination: noisy
    trajectories are then as smooth as data. These units mix frames alone, so they turn with the trajectory.

    Args:
        net: an `EGTN` or another module of the same call; in conditional mode it reads all frames, those before first,
            and one more number per particle, whether the frame is known. If it has a `vector` it reads the trajectory in
            units of the chain there, and for known frames how far they are from where the two before lead.
        betas: variances of the steps, such as those of `erlangen.generate.cosine_betas`.
        frames: frames that are generated.
        prior: module that makes the reference ``[B, frames, N, 3]`` of a dict with ``past``, such as `CentreOfMass` or
            `LearnedPrior`; None for the unconditional mode.
        target: see above.
        distances: how many known frames there are, if the network reads the distances of all pairs in these, after what
            else it reads of pairs; 0 if it does not.

    Attributes:
        diffusion: the chain, `erlangen.generate.Diffusion`.
        units, inverse: what makes trajectories about the reference of what the chain holds, ``[frames, frames]``, symmetric,
            and its inverse; of ones until `adapt`.
        symmetry: E(dim) on dicts of ``pos``, ``step`` and, where they are read, ``past``, ``node`` and ``edge_attr``, to
            vectors; only with a `net` that has a symmetry.

    Raises:
        ErlangenError: `frames` is not positive, or not those of the prior.
        UnknownNameError: `target` is not known.

    >>> from erlangen.generate import cosine_betas
    >>> from erlangen.systems.motion.geotdm import CentreOfMass
    >>> model = GeoTDM(EGTN(1, features=16), cosine_betas(10), 6, CentreOfMass(6))
    >>> model.sample({"past": torch.randn(8, 3, 5, 3)}).shape  # 3 frames are known, 6 follow
    torch.Size([8, 6, 5, 3])
    """

    def __init__(
        self,
        net: nn.Module,
        betas: Tensor,
        frames: int,
        prior: nn.Module | None = None,
        *,
        target: Target = "velocity",
        distances: int = 0,
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
        self.distances = distances
        self.dim: int = getattr(net, "dim", 3)
        self.diffusion = Diffusion(betas, CenteredGaussian((-3, -2)) if prior is None else None)
        self.register_buffer("units", torch.eye(frames))
        self.register_buffer("inverse", torch.eye(frames))
        self.register_buffer("turning", torch.ones(()))
        self.units: Tensor
        self.inverse: Tensor
        self.turning: Tensor
        self._told_centre = False
        if isinstance(net, EGTN):
            moving = {"pos": "points", "step": "invariant"} | ({} if prior is None else {"past": "points"})
            self.symmetry = Symmetry(
                E(self.dim), input=actions_of(moving, net, int(prior is not None), distances), output="vectors"
            )

    @torch.no_grad()
    def adapt(self, x: dict[str, Tensor]) -> GeoTDM:
        """Set the units of the chain, by the covariance of frames about the reference, and of the known frames' turns.

        Args:
            x: data, as for `errors`.

        Raises:
            ShapeError: something is missing or does not fit.
        """
        self._check(x)
        reference = self.reference(x)
        pos = x["pos"] if reference is None else x["pos"] - reference
        tracks = self.diffusion.project(pos, _mask(x)).double().transpose(1, 2)[_exist(x)[:, 0]]  # [particles, T, 3]
        second = torch.einsum("psd,ptd->st", tracks, tracks) / (self.dim * len(tracks))
        if reference is None:  # The mean over time stays apart: the noise's mean over time and particles is zero.
            mean = torch.full_like(second, 1 / self.frames)
            rest = torch.eye(self.frames, dtype=second.dtype, device=second.device) - mean
            second = mean @ second @ mean + rest @ second @ rest
        values, vectors = torch.linalg.eigh(second)
        roots = values.clamp(min=SMALLEST_SHARE * float(values.max())).sqrt()
        self.units.copy_((vectors * roots) @ vectors.T)
        self.inverse.copy_((vectors / roots) @ vectors.T)
        if hasattr(self.net, "reach") and self.frames > 1:
            steps = x["pos"].diff(dim=1).transpose(1, 2)[_exist(x)[:, 0]]
            cast("Any", self.net).reach.copy_(steps.square().sum(-1).mean().sqrt().clamp(min=1e-12))
        if reference is not None and x["past"].shape[1] > 2:
            turns = x["past"].diff(n=2, dim=1).transpose(1, 2)[_exist(x)[:, 0]]
            self.turning.copy_(turns.square().mean().sqrt().clamp(min=1e-12))
        return self

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
        return None if self.prior is None else self.prior({**features_of(x), "past": x["past"]})

    def _local(self, x: dict[str, Tensor], reference: Tensor | None) -> Tensor:
        """What the chain holds of trajectories: about the reference, or about the mean, in its units."""
        pos = x["pos"] if reference is None else x["pos"] - reference
        mixed = _mixed(self.inverse, self.diffusion.project(pos, _mask(x)))
        return self.diffusion.project(mixed, _mask(x))  # once more, for rounding

    def _placed(self, local: Tensor, reference: Tensor | None) -> Tensor:
        """The trajectories of what the chain holds: the inverse of `_local`."""
        pos = _mixed(self.units, local)
        return pos if reference is None else pos + reference

    def _answer(self, local: Tensor, reference: Tensor | None, step: Tensor, x: dict[str, Tensor]) -> Tensor:
        """What the network says of noisy trajectories about the reference."""
        told = step.to(local.dtype) * (REFERENCE_STEPS / self.diffusion.steps)
        seen = {**features_of(x), "step": told, "pos": self._placed(local, reference), "vector": local}
        if reference is not None:
            past = x["past"]
            seen["pos"] = torch.cat([past, seen["pos"]], 1)
            turns = F.pad(past.diff(n=2, dim=1) / self.turning, (0, 0, 0, 0, min(2, past.shape[1]), 0))
            seen["vector"] = torch.cat([turns, local], 1)
            if self.distances:
                apart = (past[:, :, :, None] - past[:, :, None]).square().sum(-1).add(SMALLEST).sqrt().movedim(1, -1)
                seen["edge_attr"] = torch.cat([x["edge_attr"], apart], -1) if "edge_attr" in x else apart
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

    def _velocity(self, local: Tensor, reference: Tensor | None, step: Tensor, x: dict[str, Tensor]) -> Tensor:
        answer = self._answer(local, reference, step, x)
        if self.target == "velocity":
            return answer
        kept = self._kept(step, local)
        return (answer - (1 - kept).sqrt() * local) / kept.sqrt()

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
        return squares / (self.dim * self.frames * exist)

    @torch.no_grad()
    def bound_terms(self, x: dict[str, Tensor], generator: Generator | None = None) -> Tensor:
        """Terms ``[B, T + 1]`` of the bound on the negative log-likelihood, see `Diffusion.bound_terms`. Arguments as `errors`.

        Densities are per volume of the subspace in unconditional mode, and given the frames before otherwise.
        """
        start, reference = self._start(x)
        terms = self.diffusion.bound_terms(
            lambda local, step: self._noise(local, reference, step, x), start, generator=generator, mask=_mask(x)
        )
        # A density per volume of trajectories is that of the chain's units over their determinant on the subspace.
        grown = _exist(x)[:, 0].sum(1) * torch.linalg.slogdet(self.units)[1]
        if reference is None:
            grown = grown - self.units.sum(1).mean().log()
        return torch.cat([terms[:, :1] + self.dim * grown[:, None], terms[:, 1:]], 1)

    def _start(self, x: dict[str, Tensor]) -> tuple[Tensor, Tensor | None]:
        """Data about the reference, and the reference."""
        self._check(x)
        for name in ("pos", "past"):
            if name in x:
                check_finite(x[name], name)
        reference = self.reference(x)
        start = self._local(x, reference)
        if reference is None and not self._told_centre:
            centred = self.diffusion.project(x["pos"], _mask(x))
            away = float((x["pos"] - centred)[_exist(x)].abs().max()) if start.numel() else 0.0
            if away > 1e-4 * max(1.0, float(centred.abs().max())):
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
        eta: float | None = 1.0,
        generator: Generator | None = None,
        noise: Tensor | None = None,
    ) -> Tensor:
        """Trajectories ``[B, frames, N, 3]``, one for each system.

        Args:
            x: ``past [B, T, N, 3]`` in conditional mode; ``node``, ``edge_attr`` and ``mask`` as for `forward`.
            shape: B and N, in unconditional mode; without it those of ``node`` or of `noise`.
            steps, eta, generator, noise: see `Diffusion.sample`; noise is ``[steps, B, frames, N, 3]``. Without eta, None,
                the flow ``dx / d theta = v`` is followed, ``cos(theta)^2 = abar``, by steps of second order (Adams and
                Bashforth) that add no noise: if data are Gaussian in the units of the chain v is zero and any number of steps
                is exact, where other samplers shrink.

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
        size = (shape[0], self.frames, shape[1], self.dim)
        settings: dict[str, Any] = {"generator": generator, "noise": noise, "dtype": like.dtype, "device": like.device}
        if eta is None:
            local = self._flow(reference, size, x, steps, settings)
        else:
            local = self.diffusion.sample(
                lambda local, step: self._noise(local, reference, step, x),
                size,
                steps=steps,
                eta=eta,
                mask=_mask(x),
                **settings,
            )
        return self._placed(local, reference)

    def _flow(
        self,
        reference: Tensor | None,
        size: tuple[int, ...],
        x: dict[str, Tensor],
        steps: int | None,
        settings: dict[str, Any],
    ) -> Tensor:
        """What the flow makes of noise, in the units of the chain."""
        count = self.diffusion.steps if steps is None else steps
        if not 1 <= count <= self.diffusion.steps:
            raise ErlangenError(f"steps = {steps}; take 1 to {self.diffusion.steps}")
        noise = settings["noise"]
        if noise is None:
            like = torch.empty(size, dtype=settings["dtype"], device=settings["device"])
            local = self.diffusion.noise_like(like, settings["generator"], _mask(x))
        elif noise.shape[1:] == size:
            local = self.diffusion.project(noise[0], _mask(x))
        else:
            raise ShapeError(f"noise has shape {tuple(noise.shape)}; the flow needs {(1, *size)}, its start")
        before, last = None, 0.0
        times = self.diffusion.times(count)
        angles = [math.acos(math.sqrt(float(self.diffusion.alpha_bars[t]))) for t in times] + [0.0]
        for k, time in enumerate(times):
            step = torch.full((size[0],), time, device=local.device)
            now = self._velocity(local, reference, step, x)
            width = angles[k] - angles[k + 1]
            change = now if before is None else now + (now - before) * (width / (2 * last))
            local, before, last = self.diffusion.project(local - width * change, _mask(x)), now, width
        return local

    # --- checks -------------------------------------------------------------------------------------------------------
    def _check(self, x: dict[str, Tensor]) -> None:
        check_motion(x, "pos", self.dim)
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
        check_motion(x, "past", self.dim)


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


def _mixed(weights: Tensor, pos: Tensor) -> Tensor:
    """Frames of ``[B, T, N, 3]`` combined by ``[T, T]``."""
    return (weights.to(pos.dtype) @ pos.flatten(2)).view_as(pos)


def _mask(x: dict[str, Tensor]) -> Tensor | None:
    """The mask of particles, for the kernel, which has frames."""
    return x["mask"][:, None] if "mask" in x else None


def _exist(x: dict[str, Tensor]) -> Tensor:
    """Which positions ``[B, T, N]`` are of particles that exist."""
    shape = x["pos"].shape[:3]
    mask = _mask(x)
    return torch.ones(shape, dtype=torch.bool, device=x["pos"].device) if mask is None else mask.expand(shape)
