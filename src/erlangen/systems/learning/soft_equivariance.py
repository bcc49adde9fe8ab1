"""Soft equivariance: pull a dense network towards several symmetries, and let the data say which ones it keeps.

Kim, Lee, Yang and Lee (ICML 2023) regularise with projections. Each linear layer of a dense network goes between fixed
representations, so for every candidate group G_j there is the nearest equivariant weight ``P_j W``. The regulariser
``sum_j c_j R_j`` with ``R_j = sum_l ||W_l - P_j W_l||^2 / 2`` (biases alike) is `erlangen.relax` with
``method="projection"``. The strengths start equal and are adjusted once, after a quarter of the training, by
``c_j <- c_j / (R_j / min_k R_k)^2``: symmetries that data contradict lose their hold. The strength of the whole group is
zero, as its subgroups imply it.

Here all networks are one (`Network`): two blocks of a linear map, products of vectors, and gates, then a linear map. Only
the linear maps differ: dense ("mlp", and with the regulariser "per"), exactly equivariant for the whole group ("emlp") or
for the subgroup that the data keep ("oracle"), or the sum of a dense and an equivariant map under different priors ("rpp":
residual pathways, Finzi, Benton and Wilson 2021). Products and gates belong to the whole group, and so to all subgroups.

1. Inertia: the inertia tensor of five masses, stretched along z by a share eps. Rotations and reflections about z are
   left when eps is not zero, all of O(3) when it is. Candidates: O(3) and the three O(2) about x, y and z.
2. Cosine: the mean cosine similarity of three vectors under SO(3) and Scaling(3), plus a term that only one of them
   respects. No linear map but zero takes vectors to scalars under scalings, and products of vectors grow with them, so for
   Scaling(3) the regulariser speaks of the linear layers alone and R_j = 0 is no exact symmetry of the network.

Against the paper: all dense networks, "mlp" too, start at equivariant weights, so that few steps tell which symmetries data
break; narrower and shallower networks, fewer epochs, batches of 250, and no forecast of traffic.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from erlangen.actions import Custom
from erlangen.claims import Claim, Result, Scale, System
from erlangen.errors import ErlangenError
from erlangen.groups import SO, Group, O, Scaling, Stabilizer
from erlangen.measure import equivariance_error, svg
from erlangen.nn import BilinearLayer, EquivariantLinear, Gate, gated
from erlangen.reps import Rep, Scalar, T, V
from erlangen.soft import discover, relax
from erlangen.soft.projection import ProjectionPenalty
from erlangen.symmetry import Symmetry
from erlangen.training import fit

SYSTEM = System(
    title="Regularizing Towards Soft Equivariance Under Mixed Symmetries",
    authors=("Hyunsu Kim", "Hyungi Lee", "Hongseok Yang", "Juho Lee"),
    venue="ICML",
    year=2023,
    arxiv="2306.00356",
    abstract_claims=(
        "A regulariser builds models with soft equivariance for several symmetries of different degrees.",
        "It is more accurate than architectures with soft equivariance on functions and on motion forecasting.",
        "It discovers the approximate level of each symmetry correctly.",
    ),
)

Row = dict[str, Any]
Pair = tuple[Tensor, Tensor]
RepOf = Callable[[Group], Rep]
Method: TypeAlias = Literal["mlp", "emlp", "oracle", "rpp", "per, fixed", "per"]
PRODUCT_SCALE = 0.25
"""Factor of the products in a block."""
PRIOR_SCALE = 5e-3
"""Factor of all regularisers, as targets have unit size here: it makes the published strengths comparable."""
BLOCKS = 2
"""Blocks before the last linear map."""


# --- the network -----------------------------------------------------------------------------------------------------
class ResidualPathway(nn.Module):
    """The sum of an equivariant and a dense linear map (residual pathway priors)."""

    def __init__(self, rep_in: Rep, rep_out: Rep, generator: Generator | None = None) -> None:
        super().__init__()
        self.equivariant = EquivariantLinear(rep_in, rep_out, generator=generator)
        self.basic = dense(rep_in, rep_out, generator)

    def forward(self, x: Tensor) -> Tensor:
        """Outputs ``[..., rep_out.size]`` of inputs ``[..., rep_in.size]``."""
        return self.equivariant(x) + self.basic(x)


def dense(rep_in: Rep, rep_out: Rep, generator: Generator | None = None) -> nn.Linear:
    """A linear map without symmetry; weights are Gaussian and keep the variance, biases start at zero."""
    layer = nn.Linear(rep_in.size, rep_out.size)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(layer.weight.shape, generator=generator) / rep_in.size**0.5)
        layer.bias.zero_()
    return layer


class Block(nn.Module):
    """``gate(h + products(vectors of h) / 4)`` with ``h = linear(x)``; all but `linear` is equivariant for the whole group."""

    def __init__(self, linear: nn.Module, rep: Rep, generator: Generator | None = None) -> None:
        super().__init__()
        group, inner = rep.group, gated(rep)
        vectors = next(n for n, part in rep.summands() if part == V(group))
        start = next(n for n, part in rep.summands() if part.is_unit)  # scalars come first
        small = 2 * vectors * Scalar(group) + T(2)(group)
        self.vectors = slice(start, start + vectors * V(group).size)
        self.linear = linear
        self.product = BilinearLayer(vectors * V(group), small, generator=generator)
        self.spread = EquivariantLinear(small, inner, bias=False, generator=generator)
        self.gate = Gate(rep)

    def forward(self, x: Tensor) -> Tensor:
        """Hidden features ``[..., rep.size]``."""
        h = self.linear(x)
        return self.gate(h + PRODUCT_SCALE * self.spread(self.product(h[..., self.vectors])))


class Network(nn.Module):
    """Two blocks and a linear map; `method` chooses the linear maps.

    Args:
        group: the whole group, O(3) or SO(3).
        rep_in, rep_out: make the representations of inputs and outputs.
        hidden: copies of scalars, vectors and matrices in the hidden representation.
        method: see the module.
        kept: the subgroup of "oracle".
        generator: source of the initial parameters.
    """

    def __init__(
        self,
        group: Group,
        rep_in: RepOf,
        rep_out: RepOf,
        hidden: tuple[int, int, int],
        method: Method,
        kept: Group | None = None,
        generator: Generator | None = None,
    ) -> None:
        super().__init__()
        self.method, self.hidden = method, _hidden(group, hidden)
        reps, inner = [rep_in(group), *[self.hidden] * BLOCKS], gated(self.hidden)

        def linear(a: Rep, b: Rep) -> nn.Module:
            if method == "rpp":
                return ResidualPathway(a, b, generator)
            if method in ("emlp", "oracle"):
                under = kept if method == "oracle" and kept is not None else group
                return EquivariantLinear(a.restrict(under), b.restrict(under), generator=generator)
            layer = dense(a, b, generator)
            with torch.no_grad():
                layer.weight.copy_(EquivariantLinear(a, b, generator=generator).matrix())
            return layer

        blocks = [Block(linear(a, inner), self.hidden, generator) for a in reps[:-1]]
        self.layers = nn.Sequential(*blocks, linear(self.hidden, rep_out(group)))

    def forward(self, x: Tensor) -> Tensor:
        """Outputs ``[B, rep_out.size]`` of inputs ``[B, rep_in.size]``."""
        return self.layers(x)


def _hidden(group: Group, copies: tuple[int, int, int]) -> Rep:
    """Copies of tensors of rank 0, 1 and 2: for all groups the same layout, so that one weight serves them all."""
    scalars, vectors, matrices = copies
    return scalars * T(0)(group) + vectors * T(1)(group) + matrices * T(2)(group)


# --- tasks -----------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Task:
    """Data with a symmetry that is known to hold or to be broken.

    `draw` makes inputs and targets from a number of samples and a generator; `candidates` begin with the whole group;
    `strength` is where the c_j start, `kept` the largest candidates that the data respect.
    """

    name: str
    draw: Callable[[int, Generator], Pair]
    rep_in: RepOf
    rep_out: RepOf
    candidates: tuple[Group, ...]
    kept: tuple[Group, ...]
    strength: float

    @property
    def symmetries(self) -> list[Symmetry]:
        """The candidates with their actions."""
        return [symmetry(group, self.rep_in, self.rep_out) for group in self.candidates]


def symmetry(group: Group, rep_in: RepOf, rep_out: RepOf) -> Symmetry:
    """A group with its representations as actions."""
    moves = [Custom(rep.apply, label=rep.name) for rep in (rep_in(group), rep_out(group))]
    return Symmetry(group, input=moves[0], output=moves[1])


def inertia(samples: int, generator: Generator, eps: float, axis: int = 2) -> Pair:
    """Five masses and positions ``[B, 20]``; inertia tensors ``I + eps (I e) e^T`` with the axis e ``[B, 9]``."""
    mass = F.softplus(torch.randn(samples, 5, generator=generator))
    pos = torch.randn(samples, 5, 3, generator=generator)
    tensor = (mass[..., None, None] * (_squares(pos) - pos[..., :, None] * pos[..., None, :])).sum(1)
    tensor[..., axis] = (1 + eps) * tensor[..., axis]
    return torch.cat([mass, pos.flatten(1)], -1), tensor.flatten(1)


def _squares(pos: Tensor) -> Tensor:
    return pos.square().sum(-1)[..., None, None] * torch.eye(3)


def cosine(samples: int, generator: Generator, breaks: Literal["nothing", "scaling", "rotation"]) -> Pair:
    """Three vectors ``[B, 9]``, and their mean cyclic cosine similarity plus 0.3 times what breaks a symmetry ``[B, 1]``.

    Scaling is broken by the mean length, rotation by the ratio of the 1-norms of the first and second half of the numbers.
    """
    x = torch.randn(samples, 3, 3, generator=generator)
    y = F.cosine_similarity(x, x.roll(1, 1), dim=-1).mean(1)
    if breaks == "scaling":
        y = y - 0.3 * x.norm(dim=-1).mean(1)
    if breaks == "rotation":
        sizes = x.flatten(1).abs()
        y = y + 0.3 * sizes[:, :4].sum(1) / sizes[:, 4:].sum(1)
    return x.flatten(1), y[:, None]


def inertia_task(eps: float) -> Task:
    """The inertia tensor, stretched along z by `eps`."""
    whole = O(3)
    about = [Stabilizer(whole, torch.eye(3)[axis]) for axis in (2, 0, 1)]
    return Task(
        f"inertia, eps = {eps:g}",
        lambda n, generator: inertia(n, generator, eps),
        lambda G: 5 * Scalar(G) + 5 * V(G),
        T(2),
        (whole, *about),
        (whole,) if eps == 0 else (about[0],),
        100.0,
    )


def cosine_task(breaks: Literal["nothing", "scaling", "rotation"]) -> Task:
    """The cosine similarity, with one of two symmetries broken."""
    groups = {"rotation": SO(3), "scaling": Scaling(3)}
    return Task(
        f"cosine, {breaks} broken",
        lambda n, generator: cosine(n, generator, breaks),
        lambda G: 3 * V(G),
        Scalar,
        tuple(groups.values()),
        tuple(group for name, group in groups.items() if name != breaks),
        0.01,
    )


# --- training --------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Budget:
    """What every method of a task gets alike."""

    samples: int
    epochs: int
    adjust_at: int
    hidden: tuple[int, int, int] = (12, 6, 1)
    batch_size: int = 250
    lr: float = 1e-2

    def __post_init__(self) -> None:
        if not 1 <= self.adjust_at < self.epochs:
            raise ErlangenError(f"adjust_at = {self.adjust_at}, epochs = {self.epochs}: give 1 <= adjust_at < epochs")


def regulariser(model: Network, task: Task, hidden: tuple[int, int, int]) -> ProjectionPenalty:
    """The projection regulariser on the candidates of a task; on the whole group of inertia it only measures."""
    whole = 0.0 if len(task.candidates) > 2 else task.strength
    strengths = [whole, *[task.strength] * (len(task.candidates) - 1)]
    representations = [task.rep_in, *[lambda G: _hidden(G, hidden)] * BLOCKS, task.rep_out]
    return relax(model, task.symmetries, method="projection", representations=representations, strengths=strengths)


def residual_prior(model: Network) -> Tensor:
    """The prior of residual pathways: half the squares, 1e-5 on the equivariant and 1 on the dense parts."""
    paths = [m for m in model.modules() if isinstance(m, ResidualPathway)]
    terms = [
        w * p.square().sum()
        for path in paths
        for w, m in ((1e-5, path.equivariant), (1.0, path.basic))
        for p in m.parameters()
    ]
    return 0.5 * torch.stack(terms).sum()


def train(task: Task, method: Method, budget: Budget, seed: int) -> Row:
    """Train one network; relative test error, its equivariance errors and the strengths at the end."""
    generator = Generator().manual_seed(seed)
    sets = [task.draw(budget.samples, generator) for _ in range(3)]
    scale = sets[0][1].square().mean().sqrt()
    (x, y), validation, test = ((a, b / scale) for a, b in sets)
    group = task.candidates[0]
    model = Network(
        group, task.rep_in, task.rep_out, budget.hidden, method, task.kept[0], Generator().manual_seed(seed)
    )
    penalty = regulariser(model, task, budget.hidden) if method.startswith("per") else None
    schedule = [] if penalty is None or method == "per, fixed" else [penalty.schedule(budget.adjust_at, budget.epochs)]

    def loss(answer: Tensor, target: Tensor) -> Tensor:
        value = F.mse_loss(answer, target)
        if not model.training:
            return value
        if penalty is not None:
            value = value + PRIOR_SCALE * penalty()
        return value + PRIOR_SCALE * residual_prior(model) if method == "rpp" else value

    begin = time.perf_counter()
    fit(
        model,
        x,
        y,
        loss=loss,
        epochs=budget.epochs,
        batch_size=budget.batch_size,
        optimizer=lambda p: torch.optim.Adam(p, lr=budget.lr),
        validation=validation,
        callbacks=schedule,
        clip=1.0,
        seed=seed,
        progress=False,
    )
    seconds = time.perf_counter() - begin
    with torch.no_grad():
        error = float(F.mse_loss(model(test[0]), test[1]))
    row: Row = {"mse": error, "seconds": seconds, "parameters": sum(p.numel() for p in model.parameters())}
    for candidate in task.symmetries:
        name = f"error {short(candidate.group)}"
        row[name] = float(equivariance_error(model, candidate, test[0][:50], elements=8, seed=seed))
    if penalty is not None:
        row |= {f"c {short(g)}": c for g, c in zip(task.candidates, penalty.strengths.tolist(), strict=True)}
    return row


def short(group: Group) -> str:
    """A short name: O(2) about an axis for the stabilizers."""
    axes = {Stabilizer(O(3), torch.eye(3)[i]): f"O(2) about {'xyz'[i]}" for i in range(3)}
    return axes.get(group, group.name)


# --- the experiment --------------------------------------------------------------------------------------------------
METHODS: tuple[Method, ...] = ("mlp", "emlp", "oracle", "rpp", "per, fixed", "per")
BREAKS = 0.3
"""The share eps of the inertia task that breaks O(3)."""


def summary(task: Task, method: Method, budget: Budget, seeds: Sequence[int]) -> Row:
    """One row: means over seeds, and the spread of the error."""
    runs = [train(task, method, budget, seed) for seed in seeds]
    row: Row = {"part": "training", "task": task.name, "method": method}
    row |= {column: statistics.mean(run[column] for run in runs) for column in runs[0]}
    row["spread"] = statistics.stdev(run["mse"] for run in runs) if len(runs) > 1 else None
    return row | {"seeds": len(runs), "samples": budget.samples, "epochs": budget.epochs}


def evidence(task: Task, samples: int, seed: int) -> list[Row]:
    """One row for each compact candidate: `erlangen.discover` on the data of a task, without a network."""
    compact = [s for s in task.symmetries if s.group.is_compact]
    found = discover(data=task.draw(samples, Generator().manual_seed(seed)), candidates=compact, seed=seed)
    return [
        {
            "part": "discovery",
            "task": task.name,
            "group": short(f.symmetry.group),
            "cost": f.cost,
            "low": f.interval[0],
            "high": f.interval[1],
            "holds": f.holds,
            "truth": _respects(task, f.symmetry.group),
            "samples": samples,
        }
        for f in found
    ]


def _respects(task: Task, group: Group) -> bool:
    """Whether the data of a task have the symmetry: a group that is kept, or one within O(3) where that is kept."""
    return group in task.kept or task.kept == (O(3),)


def experiment(scale: Scale, seed: int) -> Result:
    """Inertia and cosine tasks with all methods, and discovery from the data alone."""
    full = scale == "full"
    seeds = range(seed, seed + (3 if full else 1))
    budget = Budget(1000, 80, 45) if full else Budget(500, 12, 8, lr=2e-2)
    exact, broken = inertia_task(0.0), inertia_task(BREAKS)
    rotated, scaled = cosine_task("rotation"), cosine_task("scaling")
    rows = [summary(broken, method, budget, seeds) for method in METHODS]
    rows += [summary(exact, method, budget, seeds) for method in (("mlp", "emlp", "per") if full else ("per",))]
    if full:
        compared: tuple[Method, ...] = ("mlp", "emlp", "rpp", "per")
        rows += [summary(task, method, budget, seeds) for task in (rotated, scaled) for method in compared]
    for task in (exact, broken, rotated, scaled):
        rows += evidence(task, 2000 if full else 800, seed)
    return Result(rows, [*exact_claims(seed), *training_claims(rows, full), *discovery_claims(rows), *unmeasured()])


def exact_claims(seed: int) -> list[Claim]:
    """What holds for every weight: nesting of the violations, and exactness where one of them is zero."""
    task = inertia_task(BREAKS)
    hidden = (4, 3, 1)
    model = Network(
        task.candidates[0], task.rep_in, task.rep_out, hidden, "mlp", generator=Generator().manual_seed(seed)
    )
    generator = Generator().manual_seed(seed)
    for parameter in model.double().parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    penalty = regulariser(model, task, hidden)
    r = penalty.violations().detach()
    penalty.project(1)
    x, _ = task.draw(50, Generator().manual_seed(seed))
    error = equivariance_error(model, task.symmetries[1], x.double(), elements=100, reduce="max", seed=seed)
    return [
        Claim.exact(
            "zero-violation-is-exact",
            "Largest relative equivariance error of a network, float64, whose weights are projected onto those of O(2).",
            measured=float(error),
            tol=1e-12,
        ),
        Claim.ratio(
            "violations-nest",
            "Violation of O(3) over the largest one of its subgroups O(2), random weights.",
            measured=float(r[0] / r[1:].max()),
            at_least=1,
        ),
    ]


def training_claims(rows: Sequence[Row], full: bool) -> list[Claim]:
    """Claims about errors and strengths."""
    table = {(row["task"], row["method"]): row for row in rows if row["part"] == "training"}
    broken, exact = (inertia_task(eps).name for eps in (BREAKS, 0.0))
    per, whole = table[broken, "per"], table[exact, "per"]
    names = [f"c O(2) about {axis}" for axis in "zxy"]
    strengths = [whole[name] for name in names]
    claims = [
        Claim.ratio(
            "strengths-find-the-axis",
            "Strength of O(2) about z over the larger of the other two, inertia stretched along z.",
            measured=per[names[0]] / max(per[names[1]], per[names[2]]),
            at_least=10 if full else 1,
            published="the levels of symmetry are discovered correctly",
        ),
        Claim.ratio(
            "strengths-agree-where-all-hold",
            "Largest over smallest strength, plain inertia.",
            measured=max(strengths) / min(strengths),
            at_most=3,
        ),
        Claim.ratio(
            "adjusted-over-baselines",
            "Test error with adjusted strengths over that of the best of mlp, emlp and rpp, stretched inertia.",
            measured=per["mse"] / min(table[broken, name]["mse"] for name in ("mlp", "emlp", "rpp")),
            at_most=1,
            published="more accurate than all baselines",
        ),
        Claim.ratio(
            "adjusted-over-oracle",
            "Test error with adjusted strengths over that of a network with the symmetry that the data keep, stretched inertia.",
            measured=per["mse"] / table[broken, "oracle"]["mse"],
            at_most=1.3,
        ),
    ]
    if full:
        claims.append(
            Claim.ratio(
                "no-loss-where-all-hold",
                "Test error with adjusted strengths over that of the exact network, plain inertia.",
                measured=whole["mse"] / table[exact, "emlp"]["mse"],
                at_most=1.5,
            )
        )
        claims += [
            Claim.ratio(
                f"cosine-{breaks}-broken",
                f"Test error with adjusted strengths over that of the best of mlp, emlp and rpp, cosine with {breaks} broken.",
                measured=table[name, "per"]["mse"] / min(table[name, other]["mse"] for other in ("mlp", "emlp", "rpp")),
                at_most=1,
                published="more accurate than all baselines",
            )
            for breaks, name in (("rotation", cosine_task("rotation").name), ("scaling", cosine_task("scaling").name))
        ]
    return claims


def discovery_claims(rows: Sequence[Row]) -> list[Claim]:
    """Claims about what the data alone tell."""
    found = [row for row in rows if row["part"] == "discovery"]
    return [
        Claim.exact(
            "data-tell-what-is-broken",
            "Broken compact candidates that the data do not contradict, over four tasks.",
            measured=sum(row["holds"] and not row["truth"] for row in found),
            tol=0,
        ),
        Claim.exact(
            "data-keep-what-holds",
            "Compact candidates that hold and that the data contradict, over four tasks; chance is one in forty for each.",
            measured=sum(row["truth"] and not row["holds"] for row in found),
            tol=0,
        ),
    ]


def unmeasured() -> list[Claim]:
    """What needs other data."""
    return [
        Claim.not_measurable(
            "motion-forecasting",
            "The regulariser improves forecasts of traffic.",
            published="more accurate than residual pathways",
            reason="needs a large driving data set under licence and a GPU",
        )
    ]


# --- picture ---------------------------------------------------------------------------------------------------------
def figure(result: Result) -> str:
    """Test errors of all methods where one axis breaks O(3), and where nothing does."""
    tasks = {label: inertia_task(eps).name for label, eps in (("one axis stretched", BREAKS), ("O(3) kept", 0.0))}
    table = {(row["task"], row["method"]): row["mse"] for row in result.rows if row["part"] == "training"}
    series = [(label, [table.get((task, method)) for method in METHODS]) for label, task in tasks.items()]
    x = svg.log_scale_of([value for _, values in series for value in values if value is not None])
    return svg.row_plot(series, list(METHODS), x, "relative test error (mean square)")
