"""er.augment, er.relax, er.discover."""

import pytest
import torch
from torch import nn

import erlangen as er
from erlangen.errors import ErlangenError, GroupElementError, SymmetryError

POINTS = er.Symmetry("SO(3)", input="points", output="vectors")


def test_augment_moves_input_and_target_by_one_element(generator):
    x = torch.randn(64, 5, 3, generator=generator, dtype=torch.float64)
    y = x.mean(1)
    gx, gy = er.augment(POINTS)(x, y, generator=generator)
    torch.testing.assert_close(gx.mean(1), gy)
    assert float((gx - x).norm(dim=-1).mean()) > 0.5
    torch.testing.assert_close(gx.norm(dim=-1), x.norm(dim=-1))
    assert torch.is_tensor(er.augment(POINTS)(x))


def test_augment_draws_from_haar(generator):
    """Directions of a rotated axis are uniform on the sphere: mean 0, second moment 1/3."""
    z = torch.tensor([0.0, 0.0, 1.0]).expand(4000, 1, 3)
    moved = er.augment(POINTS)(z, generator=generator)[:, 0]
    assert float(moved.mean(0).abs().max()) < 0.05
    torch.testing.assert_close(moved.T @ moved / 4000, torch.eye(3) / 3, rtol=0, atol=0.03)


def test_augment_probability_and_elements(generator):
    x = torch.randn(2000, 1, 3, generator=generator)
    moved = er.augment(POINTS, probability=0.25)(x, generator=generator)
    share = float((moved != x).flatten(1).any(1).float().mean())
    assert share == pytest.approx(0.25, abs=0.04)
    half_turn = torch.diag(torch.tensor([-1.0, -1.0, 1.0]))[None]
    chosen = er.augment(POINTS, elements=half_turn)(x, generator=generator)
    assert torch.equal(chosen, x * torch.tensor([-1.0, -1.0, 1.0]))
    image = er.Symmetry("Cyclic(4)", input="image", output="invariant")
    same = er.augment(image, probability=0.0)(torch.rand(8, 1, 4, 4, generator=generator), generator=generator)
    assert same.shape == (8, 1, 4, 4)


def test_relax_finds_which_symmetry_the_data_break():
    """Target x^2 + y^2 + 2 z: rotations about z hold, rotations about x do not."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(256, 3, generator=generator)
    y = x[:, :2].square().sum(1, keepdim=True) + 2 * x[:, 2:]
    about = {
        axis: er.Symmetry(er.Stabilizer(er.SO(3), torch.eye(3)[axis]), input="vectors", output="invariant")
        for axis in (0, 2)
    }
    net = nn.Sequential(nn.Linear(3, 48), nn.SiLU(), nn.Linear(48, 48), nn.SiLU(), nn.Linear(48, 1))
    penalty = er.relax(net, [about[2], about[0]], samples=4)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    for _ in range(600):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(net(x), y) + penalty(x)
        loss.backward()
        optimizer.step()
    held, broken = penalty.strengths.tolist()
    assert held > 5 * broken
    violations = penalty.violations(x).detach()
    assert float(violations[0]) < 0.1 * float(violations[1])
    assert list(penalty.parameters()) == []
    assert set(penalty.state_dict()) == {"means", "spreads", "calls"}


def test_relax_is_zero_for_an_exact_model():
    class Norm(nn.Module):
        def forward(self, x):
            return x.norm(dim=-1, keepdim=True)

    sym = er.Symmetry("O(3)", input="vectors", output="invariant")
    violation = er.relax(Norm(), [sym]).violations(torch.randn(16, 3))
    assert float(violation.max()) < 1e-10


def test_discover_ranks_candidates(generator):
    x = torch.randn(32, 6, 3, generator=generator)
    candidates = [
        er.Symmetry(name, input="points", output="invariant") for name in ("SE(3)", "SO(3)", "O(3)", "Scaling(3)")
    ]
    found = er.discover(lambda x: torch.linalg.det(x[:, :3])[:, None], candidates, x)
    assert found[0].symmetry.group.name == "SO(3)"
    assert [f.symmetry.group.name for f in found if f.holds] == ["SO(3)"]
    assert all(f.interval[0] <= f.error <= f.interval[1] or f.holds for f in found)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: er.augment("SO(3)"), SymmetryError, "symmetry is a str"),
        (lambda: er.augment(POINTS, probability=1.5), ErlangenError, "probability = 1.5"),
        (lambda: er.augment(POINTS, elements=torch.zeros(1, 3, 3)), GroupElementError, "not an element of SO"),
        (lambda: er.relax(nn.Linear(3, 1), []), SymmetryError, "non-empty list"),
        (lambda: er.relax(nn.Linear(3, 1), [POINTS], samples=0), ErlangenError, "samples = 0"),
        (lambda: er.relax(nn.Linear(3, 1), [POINTS], weight=-1.0), ErlangenError, "weight = -1.0"),
        (lambda: er.discover(lambda x: x, [], torch.zeros(1, 3)), SymmetryError, "non-empty list"),
    ],
)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()
