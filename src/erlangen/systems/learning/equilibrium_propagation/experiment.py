"""What is measured of equilibrium propagation: laws that hold exactly, the order of nudges, digits by asymmetric networks."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import cosine_similarity

from erlangen.data import digits, mnist
from erlangen.measure import accuracy
from erlangen.solve import asymmetry, power_rate
from erlangen.survey import (
    Claim,
    Part,
    Result,
    Rival,
    Run,
    Sizes,
    Split,
    Training,
    bound,
    compare,
    exact,
    properties,
    sweep,
)
from erlangen.systems.learning.equilibrium_propagation.method import (
    EquilibriumNetwork,
    Propagation,
    exact_nudge,
    limits,
    nudged_error,
    recurrent_error,
)
from erlangen.systems.learning.equilibrium_propagation.rivals import LOOP, RECIPROCAL

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SETTLED = 1e-3
"""States that move by less are at rest."""


@dataclass(frozen=True)
class Budget:
    """What a run spends.

    Attributes:
        widths: of the layers of states, the output layer last.
        free_steps, steps: of the free phase, and of the nudged one.
    """

    seeds: int
    widths: tuple[int, ...]
    free_steps: int
    steps: int
    digits: Sizes
    epochs: int


BUDGETS = {
    "smoke": Budget(1, (16, 16, 10), 20, 5, Sizes(200, 50, 100), 1),
    "full": Budget(3, (64, 64, 10), 100, 20, Sizes(6000, 1000, 2000), 8),
    "paper": Budget(5, (256, 256, 10), 150, 20, Sizes(50_000, 10_000, 10_000), 50),
}


# --- what holds exactly ----------------------------------------------------------------------------------------------
LONG = 400
"""Steps after which nothing moves in small networks, in float64."""


def tiny(seed: int, degrees: float, **options: Any) -> tuple[EquilibriumNetwork, Tensor, Tensor, Tensor]:
    """A network with 12 units in double precision, inputs, labels and states at rest."""
    torch.manual_seed(seed)
    net = EquilibriumNetwork((5, 4, 4, 4), 3, degrees=degrees, free_steps=LONG, **options).double()
    g = Generator().manual_seed(seed)
    x = 0.5 * torch.randn(200, 5, generator=g, dtype=torch.float64)
    u, motion = net.settle(x)
    rest = torch.nonzero(motion < 1e-12)[:6, 0]  # at 0 degrees some alternate between two states
    return net, x[rest], torch.randint(3, (len(rest),), generator=g), u[rest]


def _relative(a: Tensor, b: Tensor) -> float:
    return float((a - b).norm() / b.norm())


def _gradient(net: nn.Module, loss: Tensor) -> Tensor:
    return torch.cat([part.flatten() for part in torch.autograd.grad(loss, list(net.parameters()))])


@exact(tol=1e-8)
def symmetric_weights_give_the_gradient(run: Run[Budget]) -> float:
    """Relative difference of the update to the gradient of the loss at rest, by implicit differentiation; symmetric weights."""
    net, x, y, _ = tiny(run.seed, 0)
    ours = _gradient(net, Propagation(steps=LONG)(net, x, y))
    return _relative(ours, _gradient(net, net.loss(net(x), y)))


@exact(tol=1e-8)
def recurrent_back_propagation_is_the_gradient(run: Run[Budget]) -> float:
    """Relative difference of recurrent back-propagation to the gradient through 400 unrolled steps; weights at 90 degrees."""
    net, x, y, u = tiny(run.seed, 90)
    ours = _gradient(net, Propagation("recurrent", steps=LONG)(net, x, y))
    state = torch.zeros_like(u)
    for _ in range(LONG):
        state = net.squash(state) @ net.matrix().mT + net.drive(x)
    return _relative(ours, _gradient(net, net.loss(net.answer(net.squash(state)), y)))


@exact(tol=1e-8)
def long_phases_reach_the_limits(run: Run[Budget]) -> float:
    """Relative difference of 400 steps of the exact nudge and of recurrent back-propagation to linear solves; 90 degrees."""
    net, x, y, u = tiny(run.seed, 90)
    ep, bp = limits(net, y, u)
    found = exact_nudge(net, x, y, u, steps=LONG), recurrent_error(net, x, y, u, steps=LONG)
    return max(_relative(found[0], ep), _relative(found[1], bp))


@exact(tol=1e-6)
def small_nudges_reach_the_limit(run: Run[Budget]) -> float:
    """Largest relative difference of N = 2, 4 and 6 small nudges to D (1 - W D)^-1 dL/ds; weights at 90 degrees."""
    net, x, y, u = tiny(run.seed, 90)
    ep, _ = limits(net, y, u)
    sizes = ((2, 5e-4), (4, 0.01), (6, 0.01))
    return max(_relative(nudged_error(net, x, y, u, beta=b, points=n, steps=LONG), ep) for n, b in sizes)


@bound(at_least=0.1)
def asymmetric_weights_leave_a_bias(run: Run[Budget]) -> float:
    """Relative difference of D (1 - W D)^-1 dL/ds to the error of back-propagation, weights at 90 degrees."""
    net, _, y, u = tiny(run.seed, 90)
    return _relative(*limits(net, y, u))


@exact(tol=1e-10)
def the_bias_is_a_closed_form(run: Run[Budget]) -> float:
    """Relative difference of a_BP - a_EP to -R^T (W - W^T) R dL/ds with R = (W - D^-1)^-1; weights at 90 degrees."""
    net, _, y, u = tiny(run.seed, 90)
    ep, bp = limits(net, y, u)
    with torch.no_grad():
        W, pull = net.matrix(), net.pull(net.squash(u), y)
        R = torch.linalg.inv(W - torch.diag_embed(1 / net.slope(u)))
        due = -(R.mT @ (W - W.mT) @ R @ pull[..., None])[..., 0]
    return _relative(bp - ep, due)


@exact(tol=1e-10)
def conjugate_nudges_give_conjugate_states(run: Run[Budget]) -> float:
    """Largest difference of one nudged step's state at the conjugate of a complex nudge to the conjugate state."""
    net, x, y, u = tiny(run.seed, 90)
    with torch.no_grad():
        s, weights, drive = net.squash(u + 0.1j), net.matrix().mT + 0j, net.drive(x)
        up = s @ weights + drive + 0.2j * net.pull(s, y)
        down = s.conj() @ weights + drive - 0.2j * net.pull(s.conj().resolve_conj(), y)
    return float((down - up.conj()).abs().max())


@exact(tol=1e-12)
def homeostasis_is_a_distance_of_weights(run: Run[Budget]) -> float:
    """Relative difference of |J - J^T|^2 / 2 to the sum over pairs of |W_forward - W_backward^T|^2; a layered network."""
    net, x, _, u = tiny(run.seed, 60)
    with torch.no_grad():
        found = asymmetry(lambda v: v @ net.matrix().mT + net.drive(x) - v, net.squash(u))
        due = sum(float((ahead - back.mT).square().sum()) for ahead, back in net.pairs())
    return float((found / due - 1).abs().max())


@exact(tol=1e-12)
def homeostasis_of_a_loop_is_decay(run: Run[Budget]) -> float:
    """Relative difference of |J - J^T|^2 / 2 to the squares of all weights between states, in a network without pairs."""
    net, x, _, u = tiny(run.seed, 90, wiring="loop")
    with torch.no_grad():
        found = asymmetry(lambda v: v @ net.matrix().mT + net.drive(x) - v, net.squash(u))
        return float((found / net.matrix().square().sum() - 1).abs().max())


PROPERTIES = (
    symmetric_weights_give_the_gradient,
    recurrent_back_propagation_is_the_gradient,
    long_phases_reach_the_limits,
    small_nudges_reach_the_limit,
    asymmetric_weights_leave_a_bias,
    the_bias_is_a_closed_form,
    conjugate_nudges_give_conjugate_states,
    homeostasis_is_a_distance_of_weights,
    homeostasis_of_a_loop_is_decay,
)


# --- nudges ----------------------------------------------------------------------------------------------------------
NUDGES, BETAS = (1, 2, 3, 4, 6), (0.01, 0.02, 0.04)


def nudges_part(run: Run[Budget]) -> Part:
    """How the bias of finite nudges falls with their size, in networks of 12 units with symmetric and asymmetric weights."""

    def method(points: int, degrees: float, seed: int) -> Mapping[str, Any]:
        net, x, y, u = tiny(seed, degrees)
        ep, _ = limits(net, y, u)
        bias = {
            beta: _relative(nudged_error(net, x, y, u, beta=beta, points=points, steps=LONG), ep)
            for beta in (*BETAS, 0.5)
        }
        exponent = power_rate(BETAS, [bias[beta] for beta in BETAS]).slope
        return {"exponent": exponent} | {f"bias at {beta:g}": value for beta, value in bias.items()}

    names = {(n, degrees): f"N={n}, {degrees} degrees" for degrees in (0, 90) for n in NUDGES}
    table = sweep("nudges", {name: partial(method, *key) for key, name in names.items()}, run=run)
    return table.part(
        *(
            table.number(
                f"order-of-{n}-nudges-at-{degrees}-degrees",
                f"Exponent of beta in the bias of N = {n} nudges on a circle, weights at {degrees} degrees.",
                table[name, "exponent"],
                expected=n,
                tol=math.log2(1.1),
            )
            for (n, degrees), name in names.items()
        )
    )


# --- digits ----------------------------------------------------------------------------------------------------------
def draws(run: Run[Budget]) -> Callable[[int], Split]:
    """Digits as vectors of pixels from 0 to 1; those of the test are in no other part, and no choice looks at them."""
    sizes = run.sizes(run.budget.digits)

    def draw(seed: int) -> Split:
        source = digits if sizes.train + sizes.validation <= 8000 else mnist
        parts: list[tuple[Tensor, Tensor]] = []
        for name in ("train", "test"):
            x, y, _ = source(name)
            order = torch.randperm(len(x), generator=Generator().manual_seed(seed))
            parts.append((x[order].flatten(1), y[order]))
        (x, y), (held, labels) = parts
        first, second = slice(sizes.train), slice(sizes.train, sizes.train + sizes.validation)
        return Split((x[first], y[first]), (x[second], y[second]), (held[: sizes.test], labels[: sizes.test]))

    return draw


@torch.no_grad()
def digits_row(net: EquilibriumNetwork, x: Tensor, y: Tensor, generator: Generator) -> Mapping[str, Any]:
    """Right answers; how well the error of the hidden layers is aligned with the gradient, of samples at rest; angles."""
    u, motion = net.settle(x[:500])
    rest, hidden = motion < SETTLED, net.states - net.sizes[-1]
    ep, bp = limits(net, y[:500], u)
    cosine = cosine_similarity(ep[rest, :hidden], bp[rest, :hidden])
    row = {"accuracy": accuracy(net, x, y), "cosine of hidden errors": float(cosine.mean())}
    row |= {"symmetry": net.jacobian_symmetry(), "share unsettled": float((~rest).double().mean())}
    return row | ({"angle": net.angle()} if net.pairs() else {})


def training(run: Run[Budget]) -> Training:
    """AdamW without decay, in batches of 50 as the authors."""
    return Training(lambda *_: torch.zeros(()), run.budget.epochs, 50, rates=(1e-3, 3e-3), schedule=None, widen=1)


def rival(run: Run[Budget], objective: Any, **options: Any) -> Rival:
    """A network of the run's sizes, trained with an objective."""
    make = partial(EquilibriumNetwork, (784, *run.budget.widths), free_steps=run.budget.free_steps, **options)
    return Rival(make, objective=objective)


def reciprocal_part(run: Run[Budget]) -> Part:
    """Neighbouring layers connected in both directions, backward weights independent of the forward ones at the start."""
    rivals = {name: rival(run, how, degrees=degrees) for name, (degrees, how) in RECIPROCAL.items()}
    table = compare(
        "digits", rivals, draws(run), training(run), digits_row, best="accuracy", run=run, larger=("accuracy", "cosine")
    )
    return table.part(
        table.not_worse("homeostasis-is-as-accurate", "EP + homeostasis", "EP", "accuracy"),
        table.beats("homeostasis-aligns-errors", "EP + homeostasis", "EP", "cosine of hidden errors"),
        table.beats("homeostasis-aligns-weights", "EP + homeostasis", "EP", "angle"),
        table.not_worse("homeostasis-is-as-accurate-as-decay", "EP + homeostasis", "EP + decay", "accuracy"),
        table.beats("asymmetry-costs-accuracy", "RBP", "EP", "accuracy"),
        table.not_worse(
            "two-finite-nudges-are-enough",
            "EP N=2 + homeostasis",
            "EP + homeostasis",
            "accuracy",
            margin=0.034,
            published="81.4 % against 84.3 % on CIFAR-10",
        ),
    )


def loop_part(run: Run[Budget]) -> Part:
    """Layers in a circle: no pair of connections whose weights could be aligned."""
    rivals = {name: rival(run, how, wiring="loop") for name, how in LOOP.items()}
    table = compare(
        "loop", rivals, draws(run), training(run), digits_row, best="accuracy", run=run, larger=("accuracy", "cosine")
    )
    return table.part(
        table.not_worse("loop-homeostasis-is-as-accurate-as-decay", "EP + homeostasis", "EP + decay", "accuracy")
    )


# --- all -------------------------------------------------------------------------------------------------------------
ELSEWHERE = (
    Claim.not_measurable(
        "cifar-10-exact-derivative",
        "Accuracy on CIFAR-10 with homeostasis and the exact derivative.",
        published="84.3 %",
        reason="150 epochs of a convolutional network that runs 290 steps per batch need a GPU",
    ),
    Claim.not_measurable(
        "imagenet-32",
        "Homeostasis on ImageNet 32 x 32.",
        published="dramatically better than without",
        reason="1.3 million pictures under a licence, and a GPU",
    ),
)


def experiment(run: Run[Budget]) -> Result:
    """Properties, nudges, digits with two wirings."""
    return Result.of(
        properties(run, *PROPERTIES), nudges_part(run), reciprocal_part(run), loop_part(run), Part(claims=ELSEWHERE)
    )


def figure(result: Result) -> Figure:
    """The bias of nudges by their size, weights at 90 degrees."""
    from erlangen import plots

    curves = {
        str(row["model"]).split(",")[0]: [(beta, float(str(row[f"bias at {beta:g}"]))) for beta in (*BETAS, 0.5)]
        for row in result.rows
        if row["part"] == "nudges" and "90 degrees" in str(row["model"])
    }
    return plots.line(curves, "size beta of the nudge", "relative bias of the error", logx=True, logy=True)
