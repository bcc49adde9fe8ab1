"""What a step of training costs: by directions, on the whole group, and by the degree of a tensor-product network."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import mse_loss

from erlangen.groups import Group, Icosahedral, Octahedral, Tetrahedral
from erlangen.measure import median_times
from erlangen.nn import KernelBasis, mlp
from erlangen.numerics import safe_norm
from erlangen.simulate import charges_ahead
from erlangen.survey import Part, Run, sweep
from erlangen.systems.points.ponita._spaces import Cloud, Lifted
from erlangen.systems.points.ponita.method import Ponita
from erlangen.systems.points.ponita.rivals import Oriented, oriented, steered

ROTATIONS: dict[int, Callable[[], Group]] = {12: Tetrahedral, 24: Octahedral, 60: Icosahedral}
"""Finite groups of rotations by their size."""

PAIRS = {6: 24, 12: 60}
"""Directions, and the rotations that permute them: equally fine grids of R^3 x S^2 and of the whole group."""

DEGREES = (1, 2, 3)


# --- the whole group --------------------------------------------------------------------------------------------------
class Rotations(nn.Module):
    """R^3 x SO(3) with a finite group of rotations R as the grid; kernels depend on ``R_i^T r`` and on ``R_i^T R_j``.

    These twelve numbers name the classes of pairs in SE(3). Exact for shifts and for the rotations of the grid. Scalars enter as
    constants, vectors v as the three numbers ``R^T v``; scalars leave as the mean, vectors as three times that of ``f(R) R e_z``.

    Args:
        count: 12, 24 or 60 rotations.
        basis, degree, cutoff, extra, generator: as for a grid of directions.
    """

    has_fiber = True
    rotations: Tensor

    def __init__(
        self, count: int, basis: int, *, degree: int = 3, cutoff: float | None = None, extra: int = 0,
        generator: Generator | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.group = ROTATIONS[count]()
        self.register_buffer("rotations", self.group.linear(self.group.elements(), dtype=torch.float64))
        self.basis = KernelBasis(3 + extra, basis, degree=degree, cutoff=cutoff, generator=generator)
        self.fiber = KernelBasis(9, basis, degree=min(degree, 2), generator=generator)

    def forward(self, cloud: Cloud) -> Lifted:
        """Features ``[N, O, S + 3 V]``."""
        rotations = self.rotations.to(cloud.pos)
        count = len(rotations)
        r = cloud.pos.index_select(0, cloud.edges[0]) - cloud.pos.index_select(0, cloud.edges[1])
        numbers = torch.einsum("oij,ei->eoj", rotations, r)
        if cloud.edge_attr is not None:
            numbers = torch.cat([numbers, cloud.edge_attr[:, None].expand(-1, count, -1)], -1)
        lengths = None if self.basis.cutoff is None else safe_norm(r)[:, None]
        features: list[Tensor] = []
        if cloud.scalars is not None:
            features.append(cloud.scalars[:, None].expand(-1, count, -1))
        if cloud.vectors is not None:
            features.append(torch.einsum("oij,nvi->novj", rotations, cloud.vectors).flatten(2))
        between = torch.einsum("oki,pkj->opij", rotations, rotations).flatten(2)
        nowhere = None if self.basis.cutoff is None else numbers.new_zeros(())
        center = self.basis(numbers.new_zeros(numbers.shape[-1]), nowhere)
        spatial = self.basis(numbers, lengths)
        return Lifted(
            torch.cat(features, -1), cloud.edges, spatial, center, self.fiber(between), rotations[:, :, 2], None
        )

    def scalars(self, f: Tensor, lifted: Lifted, nodes: int) -> Tensor:
        """The mean over rotations."""
        return f.mean(1)

    def vectors(self, f: Tensor, lifted: Lifted, nodes: int) -> Tensor:
        """Three times the mean of features times third axes."""
        axes = self.rotations.to(f)[:, :, 2]
        return 3 * torch.einsum("noc,oi->nci", f, axes) / len(axes)


class WholeGroup(Ponita):
    """`Ponita` with features on R^3 x SO(3) instead of R^3 x S^2: the same blocks on another space."""

    def __init__(
        self, vectors_in: int, vectors_out: int, *, rotations: int, width: int, basis: int, **options: Any
    ) -> None:
        super().__init__(0, vectors_in, vectors_out=vectors_out, width=width, basis=basis, **options)
        generator = options.get("generator")
        self.space = Rotations(rotations, basis, extra=options.get("edge_features", 0), generator=generator)
        self.embed = mlp([3 * vectors_in, width], generator=generator)
        self.symmetry = self._symmetry()


def whole_group(width: int, layers: int, basis: int, rotations: int, *, generator: Generator | None = None) -> Oriented:
    """The network of particles on the whole group."""
    net = WholeGroup(
        1,
        1,
        rotations=rotations,
        width=width,
        basis=basis,
        layers=layers,
        widening=2,
        edge_features=1,
        generator=generator,
    )
    return Oriented(net)


# --- the part ---------------------------------------------------------------------------------------------------------
def cost_part(run: Run[Any]) -> Part:
    """Processor time of one step of training on a batch of charged particles, without the optimiser; untrained networks."""
    budget = run.budget
    widths, layers, basis = budget.widths, budget.layers, budget.basis
    batch = 2 if run.dry else budget.charge_batch
    makes: dict[str, Callable[[], nn.Module]] = {
        f"PONITA, {count} directions": lambda count=count: oriented(widths.ours, layers, basis, directions=count)
        for count in PAIRS
    }
    makes |= {
        f"whole group, {count} rotations": lambda count=count: whole_group(widths.ours, layers, basis, count)
        for count in PAIRS.values()
    }
    makes |= {
        f"irreps network, degree {degree}": lambda degree=degree: steered(widths.irreps, layers, degree)
        for degree in DEGREES
    }

    @cache
    def rows(seed: int) -> dict[str, dict[str, float]]:
        """All networks in turns, so that a slow spell of the machine falls on all."""
        torch.manual_seed(seed)
        models = {name: make().train() for name, make in makes.items()}
        x, y = charges_ahead(batch, 100 + seed)

        def step(model: nn.Module) -> None:
            mse_loss(model(x), y).backward()

        calls = {name: lambda model=model: step(model) for name, model in models.items()}
        seconds = median_times(calls, budget.repeats, warmup=1, clock=time.process_time)
        return {
            name: {"step, ms": 1e3 * seconds[name], "parameters": sum(p.numel() for p in model.parameters())}
            for name, model in models.items()
        }

    def method(name: str) -> Callable[[int], Mapping[str, Any]]:
        return lambda seed: rows(seed)[name]

    table = sweep("cost", {name: method(name) for name in makes}, run=run)
    ours = "PONITA, 12 directions"
    words = "processor time of a step of training on charged particles, about equally many parameters"
    claims = [
        table.beats(
            f"faster-than-degree-{degree}", ours, f"irreps network, degree {degree}", "step, ms",
            statement=f"PONITA on 12 directions over a tensor-product network of degree {degree}: {words}.",
        )
        for degree in DEGREES
    ]  # fmt: skip
    claims += [
        table.beats(
            f"cheaper-than-whole-group-{rotations}", f"PONITA, {count} directions", f"whole group, {rotations} rotations",
            "step, ms",
            statement=f"PONITA on {count} directions over a network on the {rotations} rotations that permute them: {words}.",
        )
        for count, rotations in PAIRS.items()
    ]  # fmt: skip
    return table.part(*claims)
