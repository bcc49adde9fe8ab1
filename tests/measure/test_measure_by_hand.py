"""The small parts of measurements against numbers by hand: metrics, drawings, chunks, orbits, names, intervals, layers."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

import erlangen as er
from erlangen.errors import DataError, DtypeError, ModelError, NotFiniteError, OrbitError, UnknownNameError
from erlangen.measure import (
    average_displacement,
    best_of,
    checks,
    equal_pairs,
    evaluate,
    final_displacement,
    intervals,
    layers,
    metrics,
    naming,
)
from erlangen.measure.calls import Estimator
from erlangen.measure.checkpoint import Progress
from erlangen.measure.orbit import ALL_UP_TO, MAX_COUNT, orbit
from erlangen.measure.targets import load_target

INVARIANT = er.Symmetry("SO(2)", input="vectors", output="invariant")


# --- metrics ---------------------------------------------------------------------------------------------------------
def test_overlap_of_boxes():
    """Squares of side 2 whose middles are one apart in both directions share 1 of 7; wide and high ones 2 of 6."""
    boxes = torch.tensor([[0.0, 0, 2, 2], [0, 0, 2, 2], [0, 0, 4, 2], [5, 5, 1, 1], [0, 0, 0, 0], [0, 0, -2, -2]])
    others = torch.tensor([[1.0, 1, 2, 2], [0, 0, 2, 2], [1, 0, 2, 1], [0, 0, 1, 1], [0, 0, 0, 0], [0, 0, 1, 1]])
    expected = [1 / 7, 1.0, 2 / 8, 0.0, 0.0, 0.0]
    assert metrics.METRICS["iou"](boxes, others).tolist() == pytest.approx(expected)
    with pytest.raises(ModelError, match=r"needs boxes \[N, 4\]"):
        metrics.METRICS["iou"](boxes[:, :3], others[:, :3])


def test_metrics_of_numbers():
    a, b = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([[1.0, 4.0], [0.0, 8.0]])
    assert metrics.METRICS["mse"](a, b).tolist() == [2.0, 12.5]
    assert metrics.METRICS["mae"](a, b).tolist() == [1.0, 3.5]
    cosines = [9 / math.sqrt(5 * 17), 32 / math.sqrt(25 * 64)]
    assert metrics.METRICS["cosine"](a, b).tolist() == pytest.approx(cosines)
    assert metrics.METRICS["mse"](a[:, 0], b[:, :1]).tolist() == [0.0, 9.0]  # [N] and [N, 1] are the same
    with pytest.raises(ModelError, match="two entries or more"):
        metrics.METRICS["cosine"](a[:, :1], b[:, :1])
    with pytest.raises(ModelError, match="differ in shape"):
        metrics.METRICS["mse"](a, b[:, :1])
    better = {name: metric.higher_is_better for name, metric in metrics.METRICS.items()}
    assert better == {"accuracy": True, "mse": False, "mae": False, "cosine": True, "iou": True, "cross_entropy": False}
    assert [name for name, metric in metrics.METRICS.items() if metric.on_labels] == ["accuracy", "cross_entropy"]
    scores = torch.tensor([[1.0, 5.0], [3.0, 2.0]])
    assert metrics.METRICS["mse"].worst(scores, 0).values.tolist() == [3.0, 5.0]
    assert metrics.METRICS["accuracy"].worst(scores, 1).indices.tolist() == [0, 1]
    own = metrics.resolve_metric(lambda p, t: p[:, 0], None)
    assert own is not None
    assert own.higher_is_better
    assert not own.on_labels
    assert metrics.resolve_metric(None, None) is None
    for y, name in ((torch.ones(2), "mse"), (torch.ones(2, dtype=torch.long), "accuracy")):
        found = metrics.resolve_metric(None, y)
        assert found is not None
        assert found.name == name
    with pytest.raises(UnknownNameError, match="did you mean 'accuracy'"):
        metrics.resolve_metric("acuracy", None)
    with pytest.raises(UnknownNameError, match="labels are a tree"):
        metrics.resolve_metric(None, {"a": torch.ones(2)})


def test_metrics_of_labels():
    scores = torch.tensor([[1.0, 3.0, 2.0], [0.0, -1.0, 5.0]])
    labels = torch.tensor([1, 0])
    assert metrics.METRICS["accuracy"](scores, labels).tolist() == [1.0, 0.0]
    log_loss = [
        math.log(sum(math.exp(v) for v in row)) - row[t] for row, t in zip(scores.tolist(), (1, 0), strict=True)
    ]
    assert metrics.METRICS["cross_entropy"](scores, labels).tolist() == pytest.approx(log_loss)
    one_hot = torch.tensor([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    assert metrics.METRICS["accuracy"](scores, one_hot).tolist() == [1.0, 0.0]
    assert metrics.METRICS["cross_entropy"](scores, one_hot).tolist() == pytest.approx(log_loss)
    assert metrics.labels_of(torch.tensor([[0.1], [-0.1], [0.0]])).tolist() == [1, 0, 0]
    assert metrics.METRICS["accuracy"](torch.tensor([[2.0], [-2.0]]), labels).tolist() == [1.0, 1.0]
    assert metrics.METRICS["accuracy"](torch.tensor([1, 2]), torch.tensor([1, 7])).tolist() == [1.0, 0.0]
    for bad in ([1, 3], [-1, 0]):
        with pytest.raises(DataError, match="knows the classes 0 to 2"):
            metrics.METRICS["accuracy"](scores, torch.tensor(bad))
    with pytest.raises(DataError, match="knows the classes 0 to 1"):
        metrics.METRICS["accuracy"](torch.tensor([[2.0], [-2.0]]), torch.tensor([0, 2]))
    with pytest.raises(DtypeError, match="needs integer labels"):
        metrics.METRICS["accuracy"](scores, torch.tensor([0.5, 1.0]))
    half = torch.tensor([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]])
    for bad in (half, torch.tensor([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]]), torch.zeros(2, 3)):
        with pytest.raises(ModelError, match="give labels"):
            metrics.METRICS["accuracy"](scores, bad)
    for bad in ((scores[None], labels[None]), (scores, labels[:, None]), (labels, labels)):
        with pytest.raises(ModelError, match="cross_entropy"):
            metrics.METRICS["cross_entropy"](*bad)
    with pytest.raises(NotFiniteError, match="gave nan for prediction 1"):
        metrics.Metric("own", lambda p, t: torch.tensor([0.0, math.nan]))(scores, labels)
    with pytest.raises(ModelError, match=r"shape \(3,\) for 2 samples"):
        metrics.Metric("own", lambda p, t: torch.zeros(3))(scores, labels)


# --- what was answered -----------------------------------------------------------------------------------------------
def test_means_over_what_is_known():
    answers = torch.tensor([[[2.0, 5.0]], [[4.0, 7.0]], [[9.0, 9.0]]])
    known = torch.tensor([[[1.0, 0.0]], [[1.0, 0.0]], [[0.0, 0.0]]])
    assert evaluate._mean(answers, known).tolist() == [[3.0, 0.0]]
    assert evaluate._mean(answers, None).tolist() == [[5.0, 7.0]]
    assert evaluate._mean(torch.tensor([[1], [2], [2]]), None).tolist() == [2]


def test_squares_of_trees_and_labels():
    tree = {"a": torch.tensor([[[1.0, 2.0], [3.0, 0.0]]]), "b": torch.tensor([[5, 6]])}
    assert evaluate.squares(tree).tolist() == [[1 + 4 + 1, 9 + 1]]
    other = {"a": torch.tensor([[[1.0, 0.0], [0.0, 0.0]]]), "b": torch.tensor([[5, 7]])}
    assert evaluate.squares(tree, other).tolist() == [[4.0, 10.0]]
    mask = {"a": torch.tensor([[[1.0, 0.0], [1.0, 1.0]]]), "b": torch.tensor([[1.0, 0.0]])}
    assert evaluate.squares(tree, other, mask).tolist() == [[0.0, 9.0]]
    small = torch.tensor([[1e-30]])
    assert evaluate.squares(small).item() == pytest.approx(1e-60)
    zero = torch.zeros(1, 2, 1)
    moved = torch.tensor([[[3.0], [0.0]]])
    assert evaluate.relative_error(moved, zero, zero).tolist() == [[3.0, 0.0]]  # absolute where there is no size
    assert evaluate.relative_error(moved, zero, 2 + zero).tolist() == [[1.5, 0.0]]
    assert evaluate.tree_paths({"a": [zero, {"b": zero}], "c": zero}) == ["a.0", "a.1.b", "c"]


def test_chunks_grow_until_two_sizes_bring_no_gain():
    """Sizes 1, 4, 16, ... of which each is timed twice; a gain is a fifth of the time per element."""
    chunk = evaluate.Chunk(slab=1000)
    costs = {1: 1e-2, 4: 5e-3, 16: 4.1e-3, 64: 4.2e-3}
    for size, per_element in costs.items():
        assert chunk.size == size
        chunk.record(size, 9 * per_element * size)
        assert chunk.size == size
        chunk.record(size, per_element * size)  # the faster call counts
    assert chunk.fixed == 4
    chunk.record(4, 1e-9)
    assert chunk.size == 4
    better = evaluate.Chunk(slab=10)
    for size in (1, 4, 10):
        assert better.size == size
        better.record(size, 1.0 / size**2)
        better.record(size, 1.0 / size**2)
    assert better.fixed == 10  # as large as the slab
    slow = evaluate.Chunk(slab=1000)
    slow.record(1, 1.1)
    slow.record(1, 1.1)
    assert slow.fixed == 1  # a call of more than a second is long enough
    rest = evaluate.Chunk(slab=1000, _trial=16)
    for _ in range(4):
        rest.record(4, 1e-9)  # what is left of an orbit: no larger than what was tried
    assert rest.size == 16
    rest.record(5, 1.0)
    rest.record(5, 1.0)
    assert rest.size == 20
    assert evaluate.Chunk(fixed=7).size == 7


def test_slabs_fill_two_megabytes():
    model = SimpleNamespace(target=nn.Identity())
    x = torch.zeros(16, 1024)  # 64 kB
    assert evaluate.Chunk.of(model, x, None).slab == 32
    assert evaluate.Chunk.of(model, x, None) is evaluate.Chunk.of(model, x, None)
    assert evaluate.Chunk.of(model, x[:8], None).slab == 64
    assert evaluate.Chunk.of(model, torch.zeros(1024, 1024), None).slab == 1
    assert evaluate.Chunk.of(model, x, 5).fixed == 5
    assert evaluate.Chunk.of(model, x[:0], None).slab == 2 << 20


def test_answers_in_pieces():
    noted = []
    answers = evaluate.Answers(after=lambda: noted.append(answers.count))
    for start in (0, 2):
        answers.add(torch.arange(start, start + 2.0)[:, None])
    assert noted == [2, 4]
    whole = torch.arange(4.0)[:, None]
    assert torch.equal(answers.leaves()[0], whole)
    answers.join(1, whole[1:])  # no piece ends after one element: nothing changes
    assert len(answers._pieces) == 2
    answers.join(2, whole[2:])
    assert answers._pieces[1][0].data_ptr() == whole[2:].data_ptr()
    answers.join(0, whole)
    assert len(answers._pieces) == 1
    answers.join(0, whole[:2])
    assert answers.count == 4
    assert evaluate.Answers([whole]).count == 4


# --- which elements --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("group", "asked", "method", "count", "closed"),
    [
        ("SO(2)", None, "grid", 72, True),
        ("SO(2)", 5, "grid", 5, True),
        ("SO(3)", None, "grid", 256, False),
        ("E(3)", None, "sample", 256, False),
        ("Translation(1)", None, "sample", 256, False),
        ("Cyclic(1024)", None, "all", 1024, True),
        ("Cyclic(8)", 8, "all", 8, True),
        ("Cyclic(8)", 9, "all", 8, True),
        ("Symmetric(6)", None, "all", 720, True),
        ("Symmetric(7)", None, "sample", 256, False),
    ],
)
def test_orbits_by_default(group, asked, method, count, closed):
    found = orbit(er.group(group), asked)
    assert (found.method, len(found), found.closed) == (method, count, closed)


def test_orbits_that_are_refused():
    assert ALL_UP_TO == 1024
    assert MAX_COUNT == 4194304
    for bad in (0, -1, 1.5, MAX_COUNT + 1, "all"):
        with pytest.raises(OrbitError, match=r"elements = "):
            orbit(er.group("SO(3)"), bad)
    with pytest.raises(OrbitError, match=r"seed = 0.5"):
        orbit(er.group("SO(3)"), seed=0.5)
    for bad in (torch.zeros(0, 3, 3), torch.eye(3), torch.tensor(1.0)):
        with pytest.raises(OrbitError, match=r"batch \[K, 3, 3\] of SO\(3\)"):
            orbit(er.group("SO(3)"), bad)
    assert not orbit(er.group("SO(3)"), torch.eye(3)[None]).closed


# --- words -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("group", "matrix", "name"),
    [
        ("O(2)", [[0.0, -1.0], [-1.0, 0.0]], "mirror at 135°"),
        ("O(2)", [[1.0, 0.0], [0.0, -1.0]], "mirror at 0°"),
        ("O(2)", [[-1.0, 0.0], [0.0, 1.0]], "mirror at 90°"),
        ("O(2)", [[0.0, 1.0], [-1.0, 0.0]], "rotation by -90°"),
        ("O(2)", [[-1.0, 0.0], [0.0, -1.0]], "rotation by 180°"),
        ("O(3)", [[-1.0, 0, 0], [0, -1, 0], [0, 0, -1]], "inversion"),
        ("O(3)", [[1.0, 0, 0], [0, 0, -1], [0, 1, 0]], "rotation by 90° about (1, 0, 0)"),
        ("O(3)", [[-1.0, 0, 0], [0, 0, 1], [0, -1, 0]], "inversion and rotation by 90° about (1, 0, 0)"),
        ("O(4)", [[0.0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], "mirror"),
        ("O(4)", [[0.0, 1, 0, 0], [-1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], "rotation"),
        ("Scaling(2)", [[3.0, 0], [0, 3]], "scaling by 3"),
        ("GLPlus(2)", [[2.0, 1], [0, 1]], "matrix [(2, 1), (0, 1)]"),
        ("GLPlus(2)", [[0.0, -2], [2, 0]], "scaling by 2, rotation by 90°"),
        ("O(1)", [[-1.0]], "inversion"),
    ],
)
def test_matrices_in_words(group, matrix, name):
    assert ", ".join(naming._linear(torch.tensor(matrix, dtype=torch.float64))) == name


def test_permutations_and_shifts_in_words():
    assert naming._permutation([0, 1, 2]) == "identity"
    assert naming._permutation([1, 0, 2]) == "permutation [1, 0, 2]"
    assert naming._permutation([1, 0, *range(2, 12)]) == f"permutation {[1, 0, *range(2, 12)]}"
    assert naming._permutation([1, 0, *range(2, 13)]) == "permutation that moves 2 of 13"
    assert naming._shift([0, 0]) == "identity"
    assert naming._shift([0.0, -2.5]) == "shift by (0, -2.5)"
    assert naming._round(-0.001) == "0"
    assert naming._round(1.236) == "1.24"


def test_long_structures_are_cut(monkeypatch):
    monkeypatch.setattr(checks, "tree_structure", str)
    assert checks._described("a" * 80) == "a" * 80
    assert checks._described("a" * 81) == "a" * 77 + "..."


# --- intervals -------------------------------------------------------------------------------------------------------
def test_one_row_is_as_wide_as_its_columns_and_one_column_as_its_rows():
    """At least Student's interval, and in the same place as that of the mean."""
    values = torch.linspace(-1, 1, 12, dtype=torch.float64) + 5
    half = stats.t.ppf(0.975, 11) * float(values.std()) / math.sqrt(12)
    for table in (values[None], values[:, None]):
        low, high = intervals.crossed_interval(table, rows_sampled=True)
        assert 5 - 1.5 * half < low < 5 - 0.8 * half
        assert 5 + 0.8 * half < high < 5 + 1.5 * half
    assert intervals.crossed_interval(values[:, None], rows_sampled=False) == (5.0, 5.0)  # all rows there are
    assert intervals.cluster_interval(values[:1]) == (4.0, 4.0)


def test_noise_of_entries_is_not_counted_twice():
    """Entries that are noise alone: rows, columns and entries tell the same variance, s^2 / (K B)."""
    table = torch.randn(40, 50, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    low, high = intervals.crossed_interval(table, rows_sampled=True)
    assert high - low == pytest.approx(2 * 1.96 / math.sqrt(2000), rel=0.25)


# --- layers and estimators -------------------------------------------------------------------------------------------
def test_layers_are_those_without_children():
    """The square of a vector is invariant; its doubling moves as the input, and a constant shift as nothing."""

    class Norm(nn.Module):
        def forward(self, x):
            return x.norm(dim=-1, keepdim=True)

    class Shift(nn.Module):
        def forward(self, x):
            return x + torch.tensor([3.0, 0.0])

    model = nn.Sequential(nn.Sequential(nn.Identity(), nn.Sequential(Shift())), Norm())
    symmetry = er.Symmetry("Cyclic(2)", input="vectors", output="invariant")
    x = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    found = layers.layer_errors(model, symmetry, x, symmetry.group.elements())
    assert [(layer.name, layer.kind) for layer in found] == [("0.0", "Identity"), ("0.1.0", "Shift"), ("1", "Norm")]
    identity, shifted, norm = found
    assert identity.best == ("input", 0.0)
    assert identity.errors["invariant"] == pytest.approx(1.0)  # |-x - x| / |x| under one of two elements
    # |(3 - x) - (-(3 + x))| = 6 beside |3 + x| = 4 and sqrt 13, half of the time
    assert shifted.errors["input"] == pytest.approx((6 / 4 + 6 / math.sqrt(13)) / 4, rel=1e-5)
    assert shifted.errors["invariant"] == pytest.approx((2 / 4 + 4 / math.sqrt(13)) / 4, rel=1e-5)
    assert norm.errors["output"] == norm.errors["invariant"]
    # |2 - 4| / 4 and no change of sqrt 13, half of the time
    assert norm.errors["invariant"] == pytest.approx(0.5 / 4, rel=1e-5)
    [only] = layers.layer_errors(model, symmetry, x, symmetry.group.elements(), only=["0"])
    assert (only.name, only.errors) == ("0", shifted.errors)
    with pytest.raises(ModelError, match=r"'2' is no submodule; the model has 0, 0.0, 0.1, 0.1.0, 1"):
        layers.layer_errors(model, symmetry, x, symmetry.group.elements(), only=["2"])


def test_layers_are_tried_on_sixteen_elements():
    calls = []

    class Noting(nn.Module):
        def forward(self, x):
            calls.append(x.clone())
            return x

    elements = er.group("SO(2)").grid(61)
    layers.layer_errors(nn.Sequential(Noting()), INVARIANT, torch.tensor([[1.0, 0.0]]), elements)
    turned = torch.stack(calls[1:])[:, 0]
    assert len(turned) == 16
    torch.testing.assert_close(turned, elements[torch.arange(0, 61, 4), :, 0])


def test_estimators_get_flat_data_where_that_fits():
    class Fitted:
        n_features_in_ = 6
        classes_ = np.array(["a", "b", "c"])

        def predict(self, x):
            self.shape = x.shape
            return np.array(["c", "a"])

    target = Fitted()
    assert Estimator(target)(np.zeros((2, 3, 2))).tolist() == [2, 0]
    assert target.shape == (2, 6)
    Estimator(target)(np.zeros((2, 5, 2)))
    assert target.shape == (2, 5, 2)  # not what it was fitted to: it says so itself
    Estimator(target)(np.zeros((2, 6)))
    assert target.shape == (2, 6)


# --- the state of an audit -------------------------------------------------------------------------------------------
def test_tables_fill_block_by_block(tmp_path):
    progress = Progress(2, 5, 2, tmp_path / "audit.safetensors", "x")
    assert progress.missing() == [0, 2, 4]
    block = evaluate.Block(
        torch.ones(2, 2).double(), torch.tensor([3.0, 4.0]), torch.ones(2, 2), None, {"a": torch.ones(2, 2)}
    )
    progress.store(2, block)
    assert progress.missing() == [0, 4]
    assert not progress.complete
    assert progress.errors.tolist() == [[0, 0, 1, 1, 0]] * 2
    assert progress.base is not None
    assert progress.base.tolist() == [0, 0, 3, 4, 0]
    assert progress.consensus.sum() == 0
    progress.keep(4).add(torch.ones(1, 1, 3))
    progress._save()
    again = Progress(2, 5, 2, tmp_path / "audit.safetensors", "x")
    assert again.missing() == [0, 4]
    assert again.keep(4).count == 1
    assert again.entries["a"].tolist() == [[0, 0, 1, 1, 0]] * 2
    again = Progress(2, 5, 2, tmp_path / "audit.safetensors", "x")
    assert again.keep(0).count == 0  # answers of another block
    progress.cut(1)
    assert progress.errors.shape == (1, 5)


# --- what else is measured -------------------------------------------------------------------------------------------
def test_displacements_of_the_agents_that_exist():
    """Three agents that are off by 1, 2 and 9 in every frame, of which two exist."""
    target = torch.zeros(3, 4, 2)
    prediction = target.clone()
    prediction[..., 0] = torch.tensor([1.0, 2.0, 9.0])[:, None]
    exists = torch.tensor([True, True, False])
    assert average_displacement(prediction, target, exists).item() == pytest.approx(1.5)
    assert final_displacement(prediction, target, exists).item() == pytest.approx(1.5)
    assert average_displacement(prediction, target).item() == pytest.approx(4.0)
    both = torch.stack([prediction, 2 * prediction])
    assert [v.item() for v in best_of(both, target, exists)] == pytest.approx([1.5, 1.5])


@pytest.mark.parametrize("columns", [1, 3, 50])
@pytest.mark.parametrize("share", [0.1, 0.5])
def test_equal_pairs_of_many_rows_by_brute_force(columns, share):
    values = torch.rand(60, columns, generator=torch.Generator().manual_seed(columns), dtype=torch.float64)
    apart = torch.pdist(values, p=math.inf).sort().values
    count = int(share * len(apart))
    tol = float(apart[count - 1 : count + 1].mean())
    assert equal_pairs(values, tol) == (count, pytest.approx(float(apart[count])))
    exact = torch.tensor([[0.0, 0.0], [0.5, 0.5], [0.25, 0.5]])
    assert equal_pairs(exact, 0.5) == (3, math.inf)  # a difference of exactly the tolerance is none


def test_targets_of_the_command_line(tmp_path):
    (tmp_path / "mine.py").write_text(
        "class Net:\n    def __call__(self, x):\n        return x\n\n\nnet, number = Net(), 3\n"
    )
    file = str(tmp_path / "mine.py")
    assert load_target(f"{file}:net")(5) == 5
    assert load_target(f"{file}:Net")(5) == 5
    assert load_target(f"{file}:net.__call__")(5) == 5
    assert load_target("math:sqrt") is math.sqrt
    for bad, error, message in (
        ("a/b.onnx", DataError, "there is no such file"),
        (f"{tmp_path}/other.py:net", DataError, "there is no file"),
        (f"{file}:Other", DataError, "has no 'Other'; it has Net, net, number"),
        (f"{file}:number", ModelError, "is a int, which cannot be called"),
        ("no_such_module_anywhere:f", DataError, "no module"),
        ("math", DataError, "write package.module:name"),
        (":f", DataError, "write package.module:name"),
        ("math:", DataError, "write package.module:name"),
    ):
        with pytest.raises(error, match=message):
            load_target(bad)
