"""Particles under pair forces: charges, masses and springs, in batches of independent systems.

The force on particle i by particle j is ``c_ij push(|x_i - x_j|^2) (x_i - x_j)`` with a symmetric coupling ``c`` and a
`PairLaw`. Motion is integrated by velocity Verlet (leapfrog with positions and velocities at equal times), which is
symplectic, reversible and of second order, and conserves momentum and angular momentum up to rounding. All of it is in
float64; there are no walls. Every law moves with the Euclidean group: a rotated start gives the rotated trajectory.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from erlangen.errors import (
    DtypeError,
    ErlangenError,
    NotFiniteError,
    ShapeError,
    check_finite,
    check_floating,
    check_integer,
    first_index,
)
from erlangen.simulate.laws import Hooke, InverseSquare, PairLaw, check_number

__all__ = ["NBody", "charged", "evolve", "gravity", "springs"]

_PAIRS_AT_ONCE = 2**16
"""Pairs per slab of samples: enough to hide the cost of a call, few enough to stay near the cache."""
_LEAST_SLAB = 32
"""Samples per slab at least: rows shorter than that are slow to gather."""


@dataclass(frozen=True)
class NBody:
    """Trajectories of B systems of N particles in D dimensions, at T moments; the first one is the start.

    Attributes:
        pos: positions ``[B, T, N, D]``.
        vel: velocities ``[B, T, N, D]``, at the times of `pos`.
        charges: charges ``[B, N, 1]``; zero for particles without charge.
        masses: masses ``[B, N, 1]``.
        coupling: ``[B, N, N]``, symmetric with zero diagonal: the product of charges, minus the product of masses, or
            1 where there is a spring. A feature of edges, and for springs the graph that a model is to find.
        time: the moments ``[T]``, in the units of `dt`.
        law: the pair force.
    """

    pos: Tensor
    vel: Tensor
    charges: Tensor
    masses: Tensor
    coupling: Tensor
    time: Tensor
    law: PairLaw

    def energy(self) -> Tensor:
        """Kinetic plus potential energy ``[B, T]`` in float64, as exact as the dtype of `pos` and `vel`."""
        pos, vel, masses, coupling = (x.double() for x in (self.pos, self.vel, self.masses, self.coupling))
        first, second = torch.triu_indices(*coupling.shape[-2:], offset=1, device=pos.device)
        r2 = (pos[:, :, first] - pos[:, :, second]).square().sum(-1)
        potential = (coupling[:, None, first, second] * self.law.potential(r2)).sum(-1)
        return potential + 0.5 * (masses[:, None] * vel.square()).sum((-2, -1))

    def momentum(self) -> Tensor:
        """Total momentum ``[B, T, D]`` in float64."""
        return (self.masses[:, None].double() * self.vel.double()).sum(-2)


def charged(
    n_samples: int,
    n_particles: int = 5,
    *,
    steps: int = 5000,
    dt: float = 1e-3,
    record_every: int = 100,
    strength: float = 1.0,
    softening: float = 0.1,
    spread: float | None = None,
    speed: float = 0.5,
    dim: int = 3,
    generator: Generator | None = None,
    dtype: torch.dtype | None = None,
) -> NBody:
    """The charged particles of the field's n-body benchmark, with forces that are smooth and exactly equivariant.

    Charges are +1 or -1 with equal chance, masses 1. Positions are Gaussian with standard deviation `spread`; velocities
    have Gaussian directions and the length `speed`. Equal charges repel, opposite ones attract.

    The setting is that of Kipf et al. 2018 (NRI) as taken to three dimensions by Fuchs et al. 2020 and
    Satorras et al. 2021 (EGNN): 5 particles, 5000 steps of 1e-3, every 100th kept. Two things differ. There, each
    component of a force is clipped at 100, which is neither conservative nor equivariant; here the law is softened. There,
    velocities run half a step ahead and the start is not kept, so their frame k is frame k + 1 here: the task "frame 30 to
    frame 40" is ``pos[:, 31]`` and ``vel[:, 31]`` to ``pos[:, 41]``. Errors of models are therefore not comparable with
    printed ones, only with other models on the same data.

    >>> data = charged(8, steps=200, generator=torch.Generator().manual_seed(0))
    >>> data.pos.shape, data.charges.shape
    (torch.Size([8, 3, 5, 3]), torch.Size([8, 5, 1]))

    Args:
        n_samples: number of independent systems, B.
        n_particles: particles per system, N.
        steps: steps of integration, a multiple of `record_every`.
        dt: length of a step. At the defaults the energy stays within 1e-3 of the largest kinetic energy.
        record_every: steps from one frame to the next; T is ``steps // record_every + 1``.
        strength: factor of the force.
        softening: see `InverseSquare`.
        spread: standard deviation of positions; by default ``(n_particles / 5) ** (1 / 3)``, which keeps the density.
        speed: initial length of every velocity.
        dim: dimension of space, D.
        generator: source of the start, and its device the place of the computation; torch's global stream without it.
        dtype: dtype of the result; torch's default dtype without it.

    Raises:
        ErlangenError: a count is not positive, `steps` is no multiple of `record_every`, or a number is out of range.
        NotFiniteError: the bare law (``softening=0``) has met a collision.
    """
    spread = _spread(spread, n_particles)
    pos, vel = _start(n_samples, n_particles, dim, spread, speed, generator)
    signs = torch.randint(2, (n_samples, n_particles, 1), generator=generator, device=pos.device)
    charges = 2.0 * signs.double() - 1.0
    law = InverseSquare(strength, softening)
    return evolve(
        pos,
        vel,
        charges * charges.mT,
        law,
        charges=charges,
        steps=steps,
        dt=dt,
        record_every=record_every,
        dtype=_output(dtype),
    )


def gravity(
    n_samples: int,
    n_particles: int = 10,
    *,
    steps: int = 5000,
    dt: float = 1e-3,
    record_every: int = 100,
    strength: float = 1.0,
    softening: float = 0.1,
    masses: tuple[float, float] = (1.0, 1.0),
    spread: float | None = None,
    speed: float = 0.5,
    dim: int = 3,
    generator: Generator | None = None,
    dtype: torch.dtype | None = None,
) -> NBody:
    """Particles that attract each other by Newton's law; the start is drawn as in `charged`, the charges are zero.

    Args:
        masses: smallest and largest mass; each is drawn uniformly between them.
        n_samples, n_particles, steps, dt, record_every, strength, softening, spread, speed, dim, generator, dtype: see
            `charged`.

    Raises:
        ErlangenError: as `charged`, or `masses` are not positive and ordered.
        NotFiniteError: the bare law (``softening=0``) has met a collision.
    """
    low, high = masses
    check_number("masses[0]", low, above=0.0)
    check_number("masses[1]", high, least=low)
    spread = _spread(spread, n_particles)
    pos, vel = _start(n_samples, n_particles, dim, spread, speed, generator)
    uniform = torch.rand(n_samples, n_particles, 1, generator=generator, device=pos.device, dtype=torch.float64)
    mass = low + (high - low) * uniform
    law = InverseSquare(strength, softening)
    return evolve(
        pos, vel, -mass * mass.mT, law, masses=mass, steps=steps, dt=dt, record_every=record_every, dtype=_output(dtype)
    )


def springs(
    n_samples: int,
    n_particles: int = 5,
    *,
    steps: int = 5000,
    dt: float = 1e-3,
    record_every: int = 100,
    stiffness: float = 0.1,
    probability: float = 0.5,
    spread: float = 0.5,
    speed: float = 0.5,
    dim: int = 3,
    generator: Generator | None = None,
    dtype: torch.dtype | None = None,
) -> NBody:
    """Particles on a random graph of equal springs, as in Kipf et al. 2018 (NRI), without its walls.

    Every pair is joined with chance `probability` by a spring of rest length zero; ``coupling`` is the adjacency matrix.
    Positions and velocities are drawn as in `charged`, masses are 1, charges 0.

    Args:
        stiffness: of every spring.
        probability: chance of a spring between two particles.
        n_samples, n_particles, steps, dt, record_every, spread, speed, dim, generator, dtype: see `charged`.

    Raises:
        ErlangenError: as `charged`, or `probability` is not in [0, 1].
    """
    check_number("probability", probability, least=0.0, most=1.0)
    pos, vel = _start(n_samples, n_particles, dim, spread, speed, generator)
    drawn = torch.rand(n_samples, n_particles, n_particles, generator=generator, device=pos.device, dtype=torch.float64)
    upper = (drawn < probability).double().triu(1)
    law = Hooke(stiffness)
    return evolve(pos, vel, upper + upper.mT, law, steps=steps, dt=dt, record_every=record_every, dtype=_output(dtype))


@torch.no_grad()
def evolve(
    pos: Tensor,
    vel: Tensor,
    coupling: Tensor,
    law: PairLaw,
    *,
    masses: Tensor | None = None,
    charges: Tensor | None = None,
    steps: int = 5000,
    dt: float = 1e-3,
    record_every: int = 100,
    dtype: torch.dtype | None = None,
) -> NBody:
    """Trajectories from a start of your own, by velocity Verlet in float64.

    Args:
        pos: positions ``[B, N, D]`` at time zero.
        vel: velocities ``[B, N, D]`` at time zero.
        coupling: ``[B, N, N]`` or ``[N, N]``, symmetric; the diagonal is not used.
        law: the pair force.
        masses: ``[B, N, 1]`` or broadcastable to it; 1 without it.
        charges: kept in the result, not used by the motion; zeros without it.
        steps, dt, record_every: see `charged`.
        dtype: dtype of the result; that of `pos` without it.

    Returns:
        The trajectories on the device of `pos`, without gradients. On CUDA the last digits vary from run to run.

    Raises:
        ErlangenError: a number is out of range, masses are not positive, or `coupling` is not symmetric.
        ShapeError: shapes do not fit.
        DtypeError: `pos`, `vel` or `dtype` is not floating.
        NotFiniteError: an input holds NaN or Inf, or the motion has run away (too large a step, or a collision).
    """
    frames = _check_schedule(steps, dt, record_every)
    dtype = pos.dtype if dtype is None else dtype
    if not dtype.is_floating_point:
        raise DtypeError(f"dtype = {dtype}, but a floating dtype is needed; pass torch.float32 or torch.float64")
    _check_start(pos, vel)
    samples, particles, _ = pos.shape
    ones = pos.new_ones(samples, particles, 1, dtype=torch.float64)
    masses = _expanded("masses", ones if masses is None else masses, ones.shape)
    charges = _expanded("charges", torch.zeros_like(ones) if charges is None else charges, ones.shape)
    coupling = _expanded("coupling", coupling, torch.Size((samples, particles, particles)))
    if not bool((masses > 0).all()):
        raise ErlangenError(f"masses holds {float(masses.min()):.4g}; every mass must be positive")
    if not torch.equal(coupling, coupling.mT):
        raise ErlangenError("coupling is not symmetric, so forces would not be opposite; pass (c + c.mT) / 2")
    coupling = coupling - torch.diag_embed(coupling.diagonal(dim1=-2, dim2=-1))

    slab = max(_LEAST_SLAB, _PAIRS_AT_ONCE // max(1, particles * (particles - 1) // 2))
    slabs = zip(*(x.split(slab) for x in (pos.double(), vel.double(), coupling, masses)), strict=True)
    parts = [_verlet(p, v, c, m, law, frames, record_every, dt) for p, v, c, m in slabs]
    trajectory = torch.cat(parts, dim=1)
    if not bool(torch.isfinite(trajectory).all()):
        sample = first_index(~torch.isfinite(trajectory).all(0).flatten(1).all(1))[0]
        raise NotFiniteError(
            f"the motion of sample {sample} is not finite: a collision, or dt = {dt} is too large for the forces; "
            "lower dt, or give the law a softening"
        )
    time = torch.arange(frames + 1, device=pos.device, dtype=torch.float64) * (record_every * dt)
    return NBody(
        pos=trajectory[0].to(dtype),
        vel=trajectory[1].to(dtype),
        charges=charges.to(dtype),
        masses=masses.to(dtype),
        coupling=coupling.to(dtype),
        time=time.to(dtype),
        law=law,
    )


def _verlet(
    pos: Tensor, vel: Tensor, coupling: Tensor, masses: Tensor, law: PairLaw, frames: int, record_every: int, dt: float
) -> Tensor:
    """Positions and velocities ``[2, B, T, N, D]`` of one slab.

    Samples are the last, contiguous axis, so that taking the particles of all pairs copies long rows.
    """
    pos, vel, half = (
        pos.permute(1, 2, 0).contiguous(),
        vel.permute(1, 2, 0).contiguous(),
        0.5 * dt / masses.permute(1, 2, 0),
    )
    first, second = torch.triu_indices(*coupling.shape[-2:], offset=1, device=pos.device)
    strength = coupling[:, first, second].T.contiguous()
    force = torch.empty_like(pos)

    def update_force() -> None:
        apart = pos.index_select(0, first) - pos.index_select(0, second)
        push = law.push(apart.square().sum(1)).mul_(strength)
        apart.mul_(push[:, None])
        force.zero_().index_add_(0, first, apart).index_add_(0, second, apart, alpha=-1)

    record = pos.new_empty(2, frames + 1, *pos.shape)
    record[0, 0], record[1, 0] = pos, vel
    update_force()
    for step in range(1, frames * record_every + 1):
        vel.addcmul_(force, half)
        pos.add_(vel, alpha=dt)
        update_force()
        vel.addcmul_(force, half)
        if step % record_every == 0:
            record[0, step // record_every], record[1, step // record_every] = pos, vel
    return record.permute(0, 4, 1, 2, 3).contiguous()


def _start(
    samples: int, particles: int, dim: int, spread: float, speed: float, generator: Generator | None
) -> tuple[Tensor, Tensor]:
    """Gaussian positions and velocities of Gaussian direction and given length, each ``[B, N, D]`` in float64."""
    for name, value in (("n_samples", samples), ("n_particles", particles), ("dim", dim)):
        check_integer(name, value, 1)
    check_number("spread", spread, above=0.0)
    check_number("speed", speed, least=0.0)
    device = torch.get_default_device() if generator is None else generator.device
    drawn = torch.randn(2, samples, particles, dim, generator=generator, device=device, dtype=torch.float64)
    return spread * drawn[0], speed * F.normalize(drawn[1], dim=-1)


def _spread(spread: float | None, particles: int) -> float:
    return (particles / 5) ** (1 / 3) if spread is None else spread


def _output(dtype: torch.dtype | None) -> torch.dtype:
    return torch.get_default_dtype() if dtype is None else dtype


def _expanded(name: str, x: Tensor, shape: torch.Size) -> Tensor:
    """A finite float64 tensor of the shape, by broadcasting."""
    check_finite(x, name)
    try:
        return x.double().expand(shape).contiguous()
    except RuntimeError:
        raise ShapeError(f"{name} has shape {tuple(x.shape)}, which does not expand to {tuple(shape)}") from None


def _check_start(pos: Tensor, vel: Tensor) -> None:
    if pos.ndim != 3 or pos.shape != vel.shape:
        raise ShapeError(
            f"pos and vel have shapes {tuple(pos.shape)} and {tuple(vel.shape)}; both must be [samples, particles, dim]"
        )
    for name, x in (("pos", pos), ("vel", vel)):
        check_floating(x, name)
        check_finite(x, name)


def _check_schedule(steps: int, dt: float, record_every: int) -> int:
    """The number of frames after the first."""
    check_integer("steps", steps, 1)
    check_integer("record_every", record_every, 1)
    check_number("dt", dt, above=0.0)
    if steps % record_every:
        raise ErlangenError(
            f"steps = {steps} is no multiple of record_every = {record_every}, so the last steps would be lost; "
            f"pass steps={(steps // record_every + 1) * record_every}"
        )
    return steps // record_every
