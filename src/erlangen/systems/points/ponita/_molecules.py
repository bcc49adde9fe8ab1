"""Equivariant diffusion of small molecules: the network on positions and orientations as the denoiser."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import mse_loss

from erlangen.generate import CenteredGaussian, Diffusion, cosine_betas
from erlangen.groups import SO, Octahedral
from erlangen.nn import EGNN
from erlangen.survey import Part, Rival, Run, Split, Training, compare, exact, largest
from erlangen.systems.points.ponita.method import Ponita
from erlangen.training import one_cycle

OURS, EXACT = "PONITA diffusion", "EGNN diffusion"

KINDS = torch.tensor([[1.0, 0.0]] + 4 * [[0.0, 1.0]])
"""One carbon and four hydrogens."""
CARBON_HYDROGEN = 1.09
"""Length of a bond of methane in Angstrom."""
SHAKING = 0.05
"""Standard deviation of every coordinate by heat, in Angstrom."""

CENTERED = CenteredGaussian(-2)


def methane(count: int, generator: Generator) -> Tensor:
    """Positions ``[count, 5, 3]`` in Angstrom of methane, carbon first: shaken, turned at random, with mean zero."""
    corners = torch.tensor([[1.0, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) / math.sqrt(3)
    rest = torch.cat([torch.zeros(1, 3), CARBON_HYDROGEN * corners])
    noise = torch.randn(count, 5, 3, generator=generator)
    turns = SO(3).sample(count, generator=generator, dtype=torch.float32)
    return CENTERED.project((rest + SHAKING * noise) @ turns.mT)


class Denoiser(nn.Module):
    """Predicts the noise in ``x_t``, a vector for each atom, from the places and kinds of atoms and the step.

    The network gives the velocity v of Salimans and Ho (2022), of which the noise is ``sqrt(abar) v + sqrt(1 - abar) x_t``: so
    nothing is divided by the little signal that is left at the last steps.

    Args:
        diffusion: its steps.
        net: from positions ``[B, 5, 3]`` and scalars ``[B, 5, 4]`` to vectors ``[B, 5, 3]``.
    """

    kept: Tensor

    def __init__(self, diffusion: Diffusion, net: nn.Module) -> None:
        super().__init__()
        self.register_buffer("kept", diffusion.alpha_bars.clone())
        self.net = net

    def scalars(self, x: Tensor, t: Tensor) -> Tensor:
        """Kinds, and two numbers that tell the step, ``[B, 5, 4]``."""
        phase = (0.5 * math.pi * (t + 1) / len(self.kept)).to(x)
        wave = torch.stack([phase.cos(), phase.sin()], -1)
        return torch.cat([KINDS.to(x).expand(len(x), -1, -1), wave[:, None].expand(-1, x.shape[1], -1)], -1)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """The noise ``[B, 5, 3]`` in ``x_t [B, 5, 3]`` at the steps ``[B]``, with mean zero."""
        kept = self.kept[t].to(x)[:, None, None]
        velocity = self.net(x, self.scalars(x, t))
        return CENTERED.project(kept.sqrt() * velocity + (1 - kept).sqrt() * x)


class Oriented(nn.Module):
    """`Ponita` of positions, which are vectors from the middle, too."""

    def __init__(self, directions: int = 6, generator: Generator | None = None) -> None:
        super().__init__()
        self.net = Ponita(
            4, 1, vectors_out=1, directions=directions, width=24, layers=2, basis=16, widening=2, layer_scale=0.1,
            generator=generator,
        )  # fmt: skip

    def inputs(self, x: Tensor, scalars: Tensor) -> dict[str, Tensor]:
        """What the network reads."""
        return {"pos": x, "x": scalars, "vec": x[:, :, None]}

    def forward(self, x: Tensor, scalars: Tensor) -> Tensor:
        """``[B, 5, 3]``."""
        return self.net(self.inputs(x, scalars))["vec"][:, :, 0]


class Pushed(nn.Module):
    """`EGNN`, and how far it moves the atoms: the denoiser of Hoogeboom and others (2022)."""

    def __init__(self, width: int = 20) -> None:
        super().__init__()
        self.net = EGNN(4, 1, width, layers=2)

    def forward(self, x: Tensor, scalars: Tensor) -> Tensor:
        """``[B, 5, 3]``."""
        return self.net(scalars, x)[1] - x


def distances(x: Tensor) -> Tensor:
    """Sorted C-H lengths, then sorted H-H lengths, ``[B, 10]``."""
    first, second = torch.triu_indices(5, 5, offset=1)
    lengths = (x[:, first] - x[:, second]).norm(dim=-1)
    return torch.cat([lengths[:, :4], lengths[:, 4:]], -1)


def distance_gap(a: Tensor, b: Tensor) -> float:
    """Mean over the two kinds of bonds of the Wasserstein-1 distance of two sets of lengths, in Angstrom."""
    p, q = distances(a), distances(b)
    gaps: list[Tensor] = []
    for kind in (slice(0, 4), slice(4, 10)):
        left, right = (torch.quantile(d[:, kind].flatten(), torch.linspace(0.005, 0.995, 100)) for d in (p, q))
        gaps.append((left - right).abs().mean())
    return float(torch.stack(gaps).mean())


def valid(x: Tensor) -> float:
    """Share of molecules whose C-H lengths are all within 0.25 and H-H lengths within 0.4 Angstrom of those at rest."""
    lengths = distances(x)
    rest = CARBON_HYDROGEN * torch.tensor([1.0] * 4 + 6 * [math.sqrt(8 / 3)])
    limit = torch.tensor([0.25] * 4 + 6 * [0.4])
    return float(((lengths - rest).abs() < limit).all(-1).float().mean())


def gaussian_like(data: Tensor, count: int, generator: Generator) -> Tensor:
    """Samples of the normal distribution with the mean and covariance of the data, all coordinates together."""
    flat = data.flatten(1).double()
    values, axes = torch.linalg.eigh(flat.T.cov())
    z = torch.randn(count, flat.shape[1], generator=generator, dtype=torch.float64)
    return (flat.mean(0) + (z * values.clamp(min=0).sqrt()) @ axes.mT).to(data).unflatten(1, data.shape[1:])


# --- the part ---------------------------------------------------------------------------------------------------------
@exact(tol=1e-9)
def sampler_moves_with_the_noise(run: Run[Any]) -> float:
    """Largest relative difference between turned samples and samples of turned noise, rotations of the grid, random weights."""
    diffusion = Diffusion(cosine_betas(12), CENTERED)
    model = Denoiser(diffusion, Oriented(generator=run.generator()))
    calibrate(model, diffusion, methane(50, run.generator()), run.seed)
    return sampler_error(diffusion, model, run.seed)


def calibrate(model: Denoiser, diffusion: Diffusion, x: Tensor, seed: int) -> None:
    """Scale the kernels for these molecules at random steps."""
    generator = Generator().manual_seed(seed)
    t = diffusion.draw_steps(len(x), generator)
    shaken = diffusion.diffuse(x, t, diffusion.noise_like(x, generator))
    if isinstance(model.net, Oriented):
        model.net.net.calibrate_(model.net.inputs(shaken, model.scalars(shaken, t)))


@torch.no_grad()
def sampler_error(diffusion: Diffusion, model: Denoiser, seed: int) -> float:
    """Largest difference between samples of turned noise and turned samples, for rotations that permute the directions.

    In float64, over the size of the samples.
    """
    noise = torch.randn(diffusion.steps, 4, 5, 3, generator=Generator().manual_seed(seed), dtype=torch.float64)
    group, double = Octahedral(), model.double()
    found = diffusion.sample(double, (4, 5, 3), noise=noise)
    worst = 0.0
    for turn in group.linear(group.elements()[1:6], dtype=torch.float64):
        again = diffusion.sample(double, (4, 5, 3), noise=noise @ turn.mT)
        worst = largest(worst, float((again - found @ turn.mT).norm() / found.norm()))
    model.float()
    return worst


def diffusion_part(run: Run[Any]) -> Part:
    """Samples of a trained denoiser, of the normal distribution like the data, and of the data, against unseen molecules."""
    sizes = run.sizes(run.budget.molecules)
    diffusion = Diffusion(cosine_betas(run.budget.steps), CENTERED)

    def draw(seed: int) -> Split:
        generator = Generator().manual_seed(100 + seed)
        train, *unseen = (methane(count, generator) for count in sizes)
        validation, test = ({"unseen": x, "train": train} for x in unseen)
        return Split((train, train), (validation, validation), (test, test))

    def objective(net: nn.Module, x: Tensor, _: Tensor) -> Tensor:
        step = diffusion.draw_steps(len(x))
        noise = diffusion.noise_like(x)
        return (net(diffusion.diffuse(x, step, noise), step) - noise).square().mean()

    def measure(model: Any, x: dict[str, Tensor], _: Tensor, generator: Generator) -> Mapping[str, float]:
        unseen = x["unseen"]
        if isinstance(model, Denoiser):
            made = diffusion.sample(model, tuple(unseen.shape), generator=generator)
        else:
            made = model(x["train"], len(unseen), generator)
        return {"distance gap, A": distance_gap(made, unseen), "valid": valid(made)}

    def more(_: Tensor, count: int, generator: Generator) -> Tensor:
        return methane(count, generator)

    def prepare(model: Denoiser, split: Split) -> None:
        molecules: Any = split.train[0]
        calibrate(model, diffusion, molecules, run.seed)

    rivals = {
        OURS: Rival(lambda: Denoiser(diffusion, Oriented()), objective=objective, prepare=prepare),
        EXACT: Rival(lambda: Denoiser(diffusion, Pushed()), objective=objective),
        "Gaussian": Rival(lambda: gaussian_like, trains=False),
        "unseen molecules": Rival(lambda: more, trains=False),
    }
    how = Training(
        mse_loss,
        run.budget.molecule_epochs,
        50,
        rates=(1e-2, 5e-3),
        optimizer=torch.optim.Adam,
        schedule=one_cycle,
        clip=1.0,
        widen=1,
    )
    table = compare("diffusion", rivals, draw, how, measure, best="distance gap, A", run=run)
    return table.part(table.beats("molecules-beat-egnn", OURS, EXACT, "distance gap, A"))
