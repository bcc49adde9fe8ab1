"""Augmentation that looks at the model: the sampler's law, constraints against closed forms, limits, bad input."""

import math

import pytest
import torch
from scipy import stats
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import erlangen as er
from erlangen.errors import ErlangenError, ModelError, NotFiniteError, SymmetryError, UnknownNameError
from erlangen.soft import AdversarialAugment, ConstrainedAugment, metropolis
from erlangen.training import fit


def squared(prediction: Tensor, target: Tensor) -> Tensor:
    return (prediction - target).square().flatten(1).sum(1)


def draw(*size: int, seed: int = 0) -> Tensor:
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed))


# --- the sampler -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("group", ["Cyclic(8)", "Dihedral(4)"])
def test_chains_tend_to_the_law_proportional_to_the_loss(group, generator) -> None:
    g = er.group(group).sample((50, 20_000), generator=generator)
    table = torch.rand(8, generator=generator, dtype=torch.float64) + 0.05
    ends = g.gather(0, metropolis(table[g], generator)[None])[0]
    counts = torch.bincount(ends, minlength=8).double()
    expected = 20_000 * table / table.sum()
    assert stats.chisquare(counts.numpy(), expected.numpy()).pvalue > 0.01
    # A chain of one step stays at the first draw.
    assert torch.equal(metropolis(table[g[:1]], generator), torch.zeros(20_000, dtype=torch.int64))


def test_the_mean_loss_of_the_law_is_the_ratio_of_moments(generator) -> None:
    """E_lambda[l] = E_pi[l^2] / E_pi[l]: by how much it exceeds E_pi[l] measures what is not invariant."""
    g = torch.rand(60, 40_000, generator=generator, dtype=torch.float64)
    losses = 1 + torch.cos(2 * math.pi * g)  # E[l] = 1, E[l^2] = 3/2
    found = losses.gather(0, metropolis(losses, generator)[None]).mean()
    assert float(found) == pytest.approx(1.5, abs=4 * 0.5 / 200)
    flat = torch.ones(5, 100, dtype=torch.float64)
    assert bool((metropolis(flat, generator) == 4).all())  # equal losses: every proposal is accepted


def test_zero_losses_are_left_and_not_entered(generator) -> None:
    assert metropolis(torch.tensor([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]), generator).tolist() == [1, 0, 0]


# --- policies --------------------------------------------------------------------------------------------------------
class Scale(nn.Module):
    """``w x``."""

    def __init__(self, w: float = 1.0) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor(w, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return self.w * x


def mirrored(x: Tensor, y: Tensor, *, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
    return -x, y


def test_adversarial_takes_the_worst_of_all(generator) -> None:
    sym = er.Symmetry("Cyclic(4)", input="image", output="invariant")
    x = draw(6, 1, 4, 4)
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 1))
    y = torch.zeros(6, 1)
    moved, target = er.augment(sym, policy="adversarial", model=model, loss=squared, tries=60)(
        x, y, generator=generator
    )
    losses = torch.stack([squared(model(torch.rot90(x, k, (-2, -1))), y) for k in range(4)]).detach()
    torch.testing.assert_close(squared(model(moved), target).detach(), losses.amax(0))


def test_a_slack_constraint_is_training_without_it() -> None:
    """Bit-equal: the multiplier stays zero, and the sampler touches neither weights, buffers nor random numbers."""
    x, y = draw(40, 3), (draw(40, 1, seed=1) > 0).long()[:, 0]
    sym = er.Symmetry("SO(3)", input="vectors", output="invariant")

    def train(constrained: bool) -> list[Tensor]:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 2))
        watch = er.augment(
            sym, policy="constrained", model=model, loss=lambda a, b: cross_entropy(a, b, reduction="none"), limit=1e6
        )
        objective = watch.objective if constrained else None
        fit(model, x, y, loss=cross_entropy, objective=objective, epochs=3, batch_size=10, seed=1, progress=False)
        assert float(watch.multipliers) == 0
        return list(model.state_dict().values())

    assert all(torch.equal(a, b) for a, b in zip(train(True), train(False), strict=True))


def test_the_multiplier_is_the_price_of_the_constraint() -> None:
    """min (w - 1)^2 with (w + 1)^2 <= e for x = y = 1 mirrored: w = sqrt(e) - 1 and nu = (2 - sqrt(e)) / sqrt(e)."""
    x = torch.ones(4, 1, dtype=torch.float64)

    def solve(limit: float) -> tuple[float, float]:
        model = Scale()
        policy = ConstrainedAugment([mirrored], model, squared, [limit], steps=1, dual_lr=0.02)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
        for _ in range(3000):
            optimizer.zero_grad()
            policy.objective(model, x, x).backward()
            optimizer.step()
        assert abs(float(policy.slacks)) < 1e-3  # feasible, and complementary as the multiplier is positive
        return float(model.w.detach()), float(policy.multipliers)

    for limit in (0.25, 1.0, 2.25):
        w, nu = solve(limit)
        root = math.sqrt(limit)
        assert w == pytest.approx(root - 1, abs=1e-3)
        assert nu == pytest.approx((2 - root) / root, rel=2e-2)
        optimum = lambda e: (math.sqrt(e) - 2) ** 2  # noqa: E731
        assert nu == pytest.approx(-(optimum(limit + 1e-4) - optimum(limit - 1e-4)) / 2e-4, rel=2e-2)


def test_the_mixture_is_that_of_the_lagrangian(generator) -> None:
    model = Scale()
    policy = ConstrainedAugment([mirrored, mirrored], model, squared, [5.0, 5.0], dual_lr=1e-9, start=0.75)
    x = torch.ones(20_000, 1, dtype=torch.float64)
    moved, _ = policy(x, x, generator=generator)
    share = float((moved < 0).double().mean())
    assert share == pytest.approx(1.5 / 2.5, abs=4 * math.sqrt(0.24 / 20_000))


def test_multipliers_never_fall_below_zero() -> None:
    policy = ConstrainedAugment([mirrored], Scale(0.0), squared, [3.0], dual_lr=10.0, start=1.0)
    x = torch.ones(4, 1, dtype=torch.float64)
    policy(x, x)
    assert float(policy.slacks) == pytest.approx(1.0 - 3.0)
    assert float(policy.multipliers) == 0


def test_the_model_is_left_as_it_was(generator) -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1)).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    sym = er.Symmetry("SO(3)", input="vectors", output="invariant")
    for policy in (
        er.augment(sym, policy="adversarial", model=model, loss=squared),
        er.augment(sym, policy="constrained", model=model, loss=squared, limit=0.1),
    ):
        moved, _ = policy(draw(8, 3), torch.zeros(8, 1), generator=generator)
        assert not moved.requires_grad
    assert model.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


def test_a_seed_decides_everything() -> None:
    sym = er.Symmetry("SO(3)", input="vectors", output="invariant")
    x, y, model = draw(8, 3), torch.zeros(8, 1), nn.Linear(3, 1)

    def run() -> Tensor:
        policy = er.augment(sym, policy="constrained", model=model, loss=squared, limit=0.1, dual_lr=1.0, tries=3)
        generator = torch.Generator().manual_seed(3)
        return torch.stack([policy(x, y, generator=generator)[0] for _ in range(4)])

    assert torch.equal(run(), run())


def pooled(x: dict[str, Tensor]) -> Tensor:
    return x["adj"].sum((1, 2))[:, None] + x["x"].sum(1)[:, :1]


GRAPH = {"adj": (draw(5, 4, 4) > 0).float(), "x": draw(5, 4, 2)}
CASES = {
    "points": ("SE(3)", "points", "vectors", draw(5, 4, 3), lambda x: x.tanh()),
    "image": ("SO(2)", "image", "image", draw(5, 1, 6, 6), lambda x: x.tanh()),
    "shifts": ("Shifts(6, 6)", "image", "invariant", draw(5, 1, 6, 6), lambda x: x[:, :, 0, 0]),
    "field": ("Dihedral(4)", "field", "field", draw(5, 2, 6, 6), lambda x: x.tanh()),
    "nodes": ("Symmetric(4)", "permuted", "permuted", draw(5, 4, 2), lambda x: x.tanh()),
    "graph": ("Symmetric(4)", "graph", "invariant", GRAPH, pooled),
    "spd": ("SO(3)", "spd", "spd", torch.eye(3).repeat(5, 1, 1), lambda x: x + x[:, :1, :1]),
    "scaling": ("Scaling(3)", "vectors", "vectors", draw(5, 3), lambda x: x.tanh()),
    "boxes": ("Dihedral(4)", "boxes", "boxes", draw(5, 3, 4), lambda x: x.tanh()),
    "sensors": ("SO(3)", "vectors + pseudovectors", "invariant", draw(5, 7, 6), lambda x: x[:, 0, :2]),
    "tree": (
        "E(3)",
        {"pos": "points", "q": "invariant"},
        "points",
        {"pos": draw(5, 4, 3), "q": draw(5, 4, 1)},
        lambda x: x["pos"].tanh() + x["q"],
    ),
    "video": ("Cyclic(4)", "sequence(image, -4)", "invariant", draw(5, 3, 1, 4, 4), lambda x: x[:, 0, 0, 0, :1]),
}


@pytest.mark.parametrize("case", CASES)
def test_every_action_has_every_policy(case, generator) -> None:
    group, into, out, x, model = CASES[case]
    sym = er.Symmetry(group, input=into, output=out)
    y = model(x)
    uniform = er.augment(sym)(x, y, generator=generator)
    worst = er.augment(sym, policy="adversarial", model=model, loss=squared, tries=8)(x, y, generator=generator)
    policy = er.augment(sym, policy="constrained", model=model, loss=squared, limit=1e-9, dual_lr=1e9)
    policy(x, y, generator=generator)
    bound = policy(x, y, generator=generator)
    for moved, target in (uniform, worst, bound):
        assert er.actions.tree_structure(moved) == er.actions.tree_structure(x)
        assert target.shape == y.shape
    # The worst of eight places is worse than a random one, in the mean.
    mean = sum(
        float(squared(model(a), b).mean()) for a, b in (er.augment(sym)(x, y, generator=generator) for _ in range(40))
    )
    assert float(squared(model(worst[0]), worst[1]).mean()) >= mean / 40 - 1e-5


def test_an_objective_replaces_the_loss() -> None:
    model = Scale(2.0)
    x = torch.ones(10, 1, dtype=torch.float64)
    options = {"epochs": 60, "optimizer": lambda p: torch.optim.SGD(p, lr=0.05), "progress": False}
    result = fit(model, x, x, loss=nn.functional.mse_loss, objective=lambda m, x, y: (m(x) - 3 * y).square().mean(),
                 validation=(x, x), **options)  # fmt: skip
    # The objective wants w = 3, validation sees (w - 1)^2 grow from the first epoch on, and its best weights are kept.
    assert result.best_epoch == 0
    assert result.history[-1]["validation_loss"] == pytest.approx(4.0, rel=1e-2)
    assert result.history[-1]["loss"] < 1e-4


# --- bad input -------------------------------------------------------------------------------------------------------
SYM = er.Symmetry("SO(3)", input="vectors", output="invariant")
NET = nn.Linear(3, 1)
BAD = {
    "unknown policy": (lambda: er.augment(SYM, policy="hard"), UnknownNameError, "policy = 'hard'"),
    "no model": (lambda: er.augment(SYM, policy="adversarial", loss=squared), ErlangenError, "pass model=, loss=, without"),
    "no limit": (lambda: er.augment(SYM, policy="constrained", model=NET, loss=squared), ErlangenError, "loss=, limit="),
    "limit too much": (
        lambda: er.augment(SYM, policy="adversarial", model=NET, loss=squared, limit=1.0), ErlangenError, "without limit"),
    "limit zero": (
        lambda: er.augment(SYM, policy="constrained", model=NET, loss=squared, limit=0.0), ErlangenError, r"limits\[0\] = 0"),
    "limit nan": (
        lambda: er.augment(SYM, policy="constrained", model=NET, loss=squared, limit=math.nan), ErlangenError, "limits"),
    "limits uneven": (
        lambda: er.augment([SYM], policy="constrained", model=NET, loss=squared, limit=[1.0, 2.0]), ErlangenError, "one limit"),
    "no tries": (
        lambda: er.augment(SYM, policy="constrained", model=NET, loss=squared, limit=1.0, tries=0), ErlangenError, "steps = 0"),
    "several": (
        lambda: er.augment([SYM, SYM], policy="adversarial", model=NET, loss=squared), ErlangenError, "takes one symmetry"),
    "a name": (
        lambda: er.augment("SO(3)", policy="constrained", model=NET, loss=squared, limit=1.0), SymmetryError, "is a str"),
    "mean loss": (
        lambda: AdversarialAugment(er.augment(SYM), NET, nn.functional.mse_loss)(draw(4, 3), draw(4, 1)),
        ModelError, "one number per sample"),
    "negative loss": (
        lambda: AdversarialAugment(er.augment(SYM), NET, lambda a, b: (a - 99)[:, 0])(draw(4, 3), draw(4, 1)),
        NotFiniteError, "not negative"),
    "nan loss": (
        lambda: AdversarialAugment(er.augment(SYM), NET, lambda a, b: a[:, 0] * math.nan)(draw(4, 3), draw(4, 1)),
        NotFiniteError, "sample 0 is nan"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case) -> None:
    call, error, words = BAD[case]
    with pytest.raises(error, match=words):
        call()
