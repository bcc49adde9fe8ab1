"""Flow past airfoils against closed forms: the circle, ellipses, Joukowski's profiles; distances from outlines."""

import math

import pytest
import torch
from torch import Tensor

from erlangen.errors import DtypeError, ErlangenError, NotFiniteError, ShapeError
from erlangen.simulate import airfoil_flow, joukowski, naca4, outline_distance


def clockwise(panels: int, height: float = 1.0, radius: float = 1.0) -> Tensor:
    a = -2 * math.pi * torch.arange(panels + 1, dtype=torch.float64) / panels
    found = radius * torch.stack([a.cos(), height * a.sin()], -1)
    found[-1] = found[0]
    return found


def airfoil(camber: float = 0.02, panels: int = 100) -> Tensor:
    m, p, t = (torch.tensor(v, dtype=torch.float64) for v in (camber, 0.4, 0.12))
    return naca4(m, p, t, panels)


def test_the_circle() -> None:
    """c_p = 1 - 4 sin^2 on it; w = 1 - 1/z^2 outside; nothing inside."""
    outline = clockwise(200)
    flow = airfoil_flow(outline, 0.0)
    due = 1 - 4 * outline[:, 1].square()
    assert float((flow.surface_pressure()[0] - due).abs().max()) < 1e-3
    assert abs(float(flow.circulation)) < 1e-12
    x = torch.tensor([[1.5, 0.3], [0.2, -2.0], [-3.0, 1.0]], dtype=torch.float64)
    w = 1 - torch.complex(x[:, 0], x[:, 1]) ** -2
    torch.testing.assert_close(flow.velocity(x), torch.stack([w.real, -w.imag], -1), rtol=0, atol=1e-3)
    torch.testing.assert_close(flow.pressure(x), 1 - w.abs().square(), rtol=0, atol=1e-3)
    assert float(flow.velocity(torch.tensor([[0.1, 0.3]], dtype=torch.float64)).abs().max()) < 1e-3


def test_velocities_converge_at_second_order() -> None:
    x = torch.tensor([[1.4, 0.3]], dtype=torch.float64)
    w = 1 - torch.complex(x[:, 0], x[:, 1]) ** -2
    due = torch.stack([w.real, -w.imag], -1)
    errors = [float((airfoil_flow(clockwise(n), 0.0).velocity(x) - due).norm()) for n in (50, 100, 200)]
    assert 1.8 < math.log2(errors[0] / errors[1]) < 2.2
    assert 1.8 < math.log2(errors[1] / errors[2]) < 2.2


def test_lift_of_ellipses_and_of_the_flat_plate() -> None:
    """Slope 2 pi (1 + t): both thicknesses, and the line through them at t = 0."""
    slopes = []
    for t in (0.1, 0.05):
        flow = airfoil_flow(clockwise(400, t, 0.5), 0.05)
        slopes.append(2 * float(flow.circulation) / math.sin(0.05))
        assert slopes[-1] == pytest.approx(2 * math.pi * (1 + t), rel=1e-4)
    assert 2 * slopes[1] - slopes[0] == pytest.approx(2 * math.pi, rel=1e-4)


@pytest.mark.parametrize(("bend", "order"), [(0.0, 2), (0.1, 1)])
def test_lift_of_joukowski_profiles(bend: float, order: int) -> None:
    """A cusp that is bent makes it first order; two numbers of panels extrapolate."""
    found = []
    for panels in (200, 400):
        outline, radius = joukowski(0.08, bend, panels)
        due = 4 * math.pi * radius * math.sin(0.1 + math.asin(bend / radius))
        found.append(float(airfoil_flow(outline, 0.1).circulation) / due)
    assert 0.85 * 2**order < (1 - found[0]) / (1 - found[1]) < 1.15 * 2**order
    assert (2**order * found[1] - found[0]) / (2**order - 1) == pytest.approx(1, abs=3e-3 if order == 1 else 1e-6)


def test_elements_far_apart_do_not_see_each_other_and_near_ones_do() -> None:
    one = airfoil()
    alone = airfoil_flow(one, 0.1).circulation
    far = airfoil_flow([one, one + torch.tensor([0.0, 1e5])], 0.1)
    torch.testing.assert_close(far.circulation, 2 * alone, rtol=1e-4, atol=0)
    near = airfoil_flow([one, 0.3 * one + torch.tensor([1.02, -0.05])], 0.1)
    strengths = near.strengths[0]
    assert abs(float(strengths[0] + strengths[-1])) < 1e-10  # Kutta's condition, for each
    assert float(near.circulation / alone) > 1.1  # a flap lifts
    middles = (near.outlines[1][1:] + near.outlines[1][:-1]) / 2
    tangents = near.outlines[1].diff(dim=0)
    normal = torch.stack([-tangents[:, 1], tangents[:, 0]], -1) / tangents.norm(dim=-1, keepdim=True)
    assert float((near.velocity(middles) * normal).sum(-1).abs().max()) < 1e-8


def test_turning_all_turns_the_flow() -> None:
    """Geometry, points and stream together by any angle; shifts likewise."""
    x = torch.tensor([[1.3, 0.4], [-0.4, 0.2]], dtype=torch.float64)
    c, s = math.cos(0.7), math.sin(0.7)
    R = torch.tensor([[c, -s], [s, c]], dtype=torch.float64)
    straight = airfoil_flow(airfoil(), 0.1).velocity(x)
    turned = airfoil_flow(airfoil() @ R.mT + 3, 0.8).velocity(x @ R.mT + 3)
    torch.testing.assert_close(turned, straight @ R.mT, rtol=0, atol=1e-10)


def test_batches_and_chunks() -> None:
    m = torch.tensor([0.0, 0.02, 0.04], dtype=torch.float64)
    outlines = naca4(m, torch.full_like(m, 0.4), torch.full_like(m, 0.12), 60)
    angle = torch.tensor([0.0, 0.1, -0.05], dtype=torch.float64)
    x = 2 + torch.rand(3, 9, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    flow = airfoil_flow(outlines, angle)
    for i in range(3):
        single = airfoil_flow(outlines[i], float(angle[i]))
        torch.testing.assert_close(flow.velocity(x)[i], single.velocity(x[i]), rtol=0, atol=1e-12)
    torch.testing.assert_close(flow.velocity(x, chunk=2), flow.velocity(x), rtol=0, atol=1e-14)


def test_naca_numbers() -> None:
    """Thickness 12 % at 30 % of the chord, camber 2 % at 40 %; clockwise; both ends closed."""
    symmetric, bent = airfoil(0.0, 2000), airfoil(0.02, 2000)
    assert float(symmetric[:, 1].max()) == pytest.approx(0.06, abs=1e-4)
    assert float(symmetric[symmetric[:, 1].argmax(), 0]) == pytest.approx(0.3, abs=5e-3)
    lower, upper = bent[:1001].flip(0), bent[1000:]
    middle = (lower + upper) / 2
    assert float(middle[:, 1].max()) == pytest.approx(0.02, abs=1e-8)
    assert float(middle[middle[:, 1].argmax(), 0]) == pytest.approx(0.4, abs=1e-3)
    assert bent[0].tolist() == bent[-1].tolist() == [1.0, 0.0]


def test_distances() -> None:
    """Against a circle, whose distance is known, and a corner by hand; either direction; several outlines."""
    x = 3 * torch.rand(500, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64) - 1.5
    fine = clockwise(4000)
    due = x.norm(dim=-1) - 1
    assert float((outline_distance(x, fine) - due).abs().max()) < 1e-5
    torch.testing.assert_close(outline_distance(x, fine.flip(0)), outline_distance(x, fine), rtol=0, atol=1e-15)
    two = outline_distance(x, [fine, fine + 5])
    torch.testing.assert_close(two, torch.minimum(due, (x - 5).norm(dim=-1) - 1), rtol=0, atol=1e-5)
    flag = torch.tensor([[0.0, 0], [2, 0], [1, 1], [2, 2], [0, 2], [0, 0]], dtype=torch.float64)  # with a dent
    given = torch.tensor([[1.8, 1.0], [0.5, 1.0], [3.0, 0.0], [1.0, 1.0]], dtype=torch.float64)
    expected = torch.tensor([0.8 / 2**0.5, -0.5, 1.0, 0.0], dtype=torch.float64)
    torch.testing.assert_close(outline_distance(given, flag), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: airfoil_flow(clockwise(20).flip(0), 0.0), ErlangenError, "runs counter-clockwise"),
        (lambda: airfoil_flow(clockwise(20)[:-1], 0.0), ShapeError, "not closed"),
        (lambda: airfoil_flow(clockwise(20)[:, :1], 0.0), ShapeError, "closed polygons"),
        (lambda: airfoil_flow(clockwise(20) * torch.nan, 0.0), NotFiniteError, "outlines has 42 values"),
        (lambda: airfoil_flow(clockwise(20).round().long(), 0.0), DtypeError, "floating"),
        (lambda: airfoil_flow(clockwise(20)[[0, 0, *range(1, 21)]], 0.0), ErlangenError, "panel of length 0"),
        (
            lambda: airfoil_flow([clockwise(20), clockwise(20)[None]], 0.0),
            ShapeError,
            r"outlines\[1\] has the leading axes",
        ),
        (lambda: airfoil_flow(clockwise(20), 0.0).velocity(torch.zeros(2)), ShapeError, r"points \[..., Q, 2\]"),
        (lambda: outline_distance(torch.zeros(3, 3), clockwise(20)), ShapeError, r"points \[..., Q, 2\]"),
        (lambda: airfoil(panels=7), ErlangenError, "panels = 7: give an even number"),
        (lambda: naca4(*torch.tensor([0.0, 0.4, -0.1])), ErlangenError, "thickness = -0.1"),
        (lambda: naca4(*torch.tensor([0.0, 1.0, 0.1])), ErlangenError, "place reaches from 1 to 1"),
        (lambda: joukowski(-0.1, 0.0), ErlangenError, "thick = -0.1"),
    ],
)
def test_bad_input(build, error: type[ErlangenError], message: str) -> None:
    with pytest.raises(error, match=message):
        build()
