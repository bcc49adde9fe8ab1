"""Elements in words, plots and tables of a report."""

import math
import sys
import types

import pytest
import torch
from matplotlib.figure import Figure

import erlangen as er
from erlangen import plots
from erlangen.errors import MissingExtraError
from erlangen.groups.rotations import axis_angle_to_matrix
from erlangen.measure.naming import element_name

F64 = torch.float64


def plane(degrees):
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return torch.tensor([[c, -s], [s, c]], dtype=F64)


def turned(degrees, axis):
    return axis_angle_to_matrix(math.radians(degrees) * torch.tensor(axis, dtype=F64))


def rigid(linear, shift):
    top = torch.cat((linear, torch.tensor(shift, dtype=F64)[:, None]), 1)
    return torch.cat((top, torch.eye(len(top) + 1, dtype=F64)[-1:]))


@pytest.mark.parametrize(
    ("group", "element", "name"),
    [
        ("SO(2)", plane(40), "rotation by 40°"),
        ("SO(2)", plane(-90), "rotation by -90°"),
        ("SO(2)", plane(0).float(), "identity"),
        ("C4", torch.tensor(2), "rotation by 180°"),
        ("D4", torch.tensor(4), "mirror at 90°"),  # x to -x: across the upright line
        ("O(1)", torch.tensor(1), "inversion"),
        ("SO(3)", turned(90, [0, 0, 1]), "rotation by 90° about (0, 0, 1)"),
        ("SO(3)", turned(30, [0.6, 0, -0.8]).float(), "rotation by 30° about (0.6, 0, -0.8)"),
        ("O(3)", -turned(30, [1, 0, 0]), "inversion and rotation by 30° about (1, 0, 0)"),
        ("O(3)", -torch.eye(3), "inversion"),
        ("SE(2)", rigid(plane(10), [1.5, -2]), "rotation by 10°, shift by (1.5, -2)"),
        ("Translation(2)", rigid(plane(0), [3, 0]), "shift by (3, 0)"),
        ("Scaling(2)", 1.5 * torch.eye(2, dtype=F64), "scaling by 1.5"),
        ("CSO(2)", 2 * plane(25), "scaling by 2, rotation by 25°"),
        ("SL(2)", torch.tensor([[1.0, 0.5], [0, 1]]), "matrix [(1, 0.5), (0, 1)]"),
        ("Shifts(8, 8)", torch.tensor([2, 0]), "shift by (2, 0)"),
        ("Shifts(8, 8)", torch.tensor([0, 0]), "identity"),
        ("S3", torch.tensor([1, 0, 2]), "permutation [1, 0, 2]"),
        ("S20", torch.arange(20).roll(1), "permutation that moves 20 of 20"),
        ("S3", torch.arange(3), "identity"),
        ("C4 x S2", torch.tensor([1, 1, 0]), "rotation by 90° x permutation [1, 0]"),
    ],
)
def test_elements_in_words(group, element, name):
    assert element_name(er.group(group), element) == name


def report(group="SO(2)", labels=True, n=8):
    """The first coordinate: worst half-way around, where its sign is wrong."""
    x = torch.tensor([[1.0, 0.0], [2.0, 0.0]], dtype=F64)
    sym = er.Symmetry(group, input="vectors", output="invariant")
    return er.audit(lambda v: v[:, :1], sym, x, x[:, :1] if labels else None, elements=n)


def test_the_worst_element_is_an_angle(capsys):
    found = report()
    assert found.element_name(found.worst_element[0]) == "rotation by 180°"
    found.show()
    text = " ".join(capsys.readouterr().out.split())
    assert "mse, worst element" in text
    assert "#" not in text
    assert text.count("(rotation by 180°)") == 2
    data = found.to_dict()
    assert data["error"]["max_at"]["name"] == data["metric"]["worst_element"]["name"] == "rotation by 180°"
    assert data["hardest_samples"][0]["worst_element_name"] == "rotation by 180°"
    assert "rotation by 180°" in found.to_html()


def test_rows():
    found = report()
    rows = found.to_rows()
    assert len(rows) == 8 * 2
    assert [row["sample"] for row in rows[:3]] == [0, 1, 0]
    assert rows[3] == {
        "element": 1,
        "transformation": found.element_name(1),
        "sample": 1,
        "error": float(found.errors[1, 1]),
        "mse": float(found.scores[1, 1]),
    }
    assert set(report(labels=False).to_rows()[0]) == {"element", "transformation", "sample", "error"}


def test_dataframe(monkeypatch):
    pandas = types.SimpleNamespace(DataFrame=lambda rows: ("frame", rows))
    monkeypatch.setitem(sys.modules, "pandas", pandas)
    found = report()
    assert found.to_dataframe() == ("frame", found.to_rows())
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingExtraError, match=r"to_rows\(\) gives plain dicts.*pip install pandas"):
        found.to_dataframe()


def test_dataframe_of_pandas():
    pandas = pytest.importorskip("pandas")
    found = report()
    frame = found.to_dataframe()
    assert isinstance(frame, pandas.DataFrame)
    assert frame.groupby("element")["error"].mean().tolist() == pytest.approx(found.errors.mean(1).tolist())


@pytest.mark.parametrize(("group", "panels", "kind"), [("SO(2)", 1, "polar"), ("C2", 1, "rectilinear")])
def test_plots_are_figures(group, panels, kind):
    figure = report(group).plot()
    assert isinstance(figure, Figure)
    shown = [ax for ax in figure.axes if ax.name == kind]
    assert len(shown) == panels
    assert plots.to_svg(figure).startswith("<svg")


def test_plot_into_axes():
    """The curve over the circle is (cos t - 1)^2 times the mean square of the samples, 2.5."""
    figure, (_, ax) = plots.panels(2, polar=[1])
    assert report().plot(ax) is figure
    angles, values = ax.lines[0].get_data()
    expected = [2.5 * (math.cos(t) - 1) ** 2 for t in angles]
    assert values.tolist() == pytest.approx(expected, abs=1e-9)


def test_plots_of_rotations_of_space():
    x = torch.randn(3, 4, 3, generator=torch.Generator().manual_seed(0))
    sym = er.Symmetry("SO(3)", input="points", output="invariant")
    figure = er.audit(lambda x: x[:, 0], sym, x, elements=16).plot()
    assert len(figure.axes) == 2
    assert "where z points" in plots.to_svg(figure)
