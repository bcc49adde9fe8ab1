"""Symmetrized models under `torch.compile`, `torch.export` with an open batch, and in onnxruntime: the same numbers."""

import copy
import inspect
import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import erlangen as er
from erlangen.actions import tree_leaves, tree_map
from erlangen.enforce import PointsFrame, symmetrize
from erlangen.errors import DegenerateFrameWarning, ModelError, OrbitError
from erlangen.nn.images import Anchored, AnchoredPatchEmbed
from erlangen.symmetry import Symmetry

BATCH = torch.export.Dim("batch", min=1, max=64)

# Frames are computed in float64; what differs is the order of sums in float32, here over at most 100 numbers of size one.
CLOSE = {"rtol": 1e-5, "atol": 2e-6}


class Pixels(nn.Module):
    """Scores of pictures, or pictures of pictures."""

    def __init__(self, height: int = 6, width: int = 6, dense: bool = False, channels: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 3, 3, padding=1)
        self.head = nn.Conv2d(3, channels, 3, padding=1) if dense else nn.Linear(3 * height * width, 2)
        self.dense = dense

    def forward(self, picture: Tensor) -> Tensor:
        maps = self.conv(picture).relu()
        return self.head(maps if self.dense else maps.flatten(1))


class ChannelsLast(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = Pixels(dense=True)

    def forward(self, photo: Tensor) -> Tensor:
        return self.net(photo.movedim(-1, -3)).movedim(-3, -1)


class Cloud(nn.Module):
    """Scores ``[B, 2]`` or vectors ``[B, n, d]`` of rows ``[B, n, d]``."""

    def __init__(self, n: int = 5, d: int = 3, vectors: bool = False) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(n * d, 8), nn.Linear(8, n * d if vectors else 2)
        self.shape = (n, d) if vectors else (2,)

    def forward(self, cloud: Tensor) -> Tensor:
        return self.outer(self.inner(cloud.flatten(1)).tanh()).unflatten(1, self.shape)


class Graphs(nn.Module):
    def __init__(self, n: int) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(n * n, 8), nn.Linear(8, 2)

    def forward(self, graph: dict[str, Tensor]) -> Tensor:
        return self.outer(self.inner(graph["adj"].flatten(1)).tanh())


class Masked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(3, 8), nn.Linear(8, 2)

    def forward(self, cloud: Tensor, mask: Tensor) -> Tensor:
        return self.outer((self.inner(cloud).tanh() * mask[..., None]).sum(1))


class Timed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = Cloud()

    def forward(self, cloud: Tensor, time: Tensor, scale: float = 1.0) -> Tensor:
        return self.net(cloud) * time[:, None] * scale


class Molecules(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.energy, self.forces = Cloud(), Cloud(vectors=True)

    def forward(self, molecule: dict[str, Tensor]) -> dict[str, Tensor]:
        pos, charge = molecule["pos"], molecule["charge"]
        return {"energy": self.energy(pos) + charge.sum((1, 2))[:, None], "forces": self.forces(pos)}


def normal(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def graphs(n: int) -> dict[str, Tensor]:
    adj = normal(4, n, n).abs()
    return {"adj": adj + adj.mT}


def case(name: str) -> tuple[nn.Module, tuple[Any, ...]]:
    """A symmetric model and its arguments, batches of 4."""
    torch.manual_seed(0)
    pictures, cloud, flat = normal(4, 1, 6, 6), normal(4, 5, 3), normal(4, 5, 2)
    mask = torch.tensor([[True] * 5, [True] * 4 + [False], [True] * 5, [True] * 3 + [False] * 2])
    dense, vectors = Pixels(dense=True), Cloud(vectors=True)
    molecule = Symmetry(
        "E(3)",
        input={"pos": "points", "charge": "invariant"},
        output={"energy": "invariant", "forces": "vectors"},
    )
    every: dict[str, Any] = {
        "Cyclic(4)": lambda: (symmetrize(Pixels(), Symmetry("Cyclic(4)", input="image", output="invariant")), pictures),
        "Dihedral(4)": lambda: (symmetrize(dense, Symmetry("Dihedral(4)", input="image", output="image")), pictures),
        "rectangle": lambda: (
            symmetrize(dense, Symmetry("Dihedral(2)", input="image", output="image")), pictures[..., :4]),
        "Cyclic(8)": lambda: (symmetrize(Pixels(), Symmetry("Cyclic(8)", input="image", output="invariant")), pictures),
        "bicubic": lambda: (symmetrize(
            dense, Symmetry("Cyclic(6)", input="image(interpolation=bicubic,padding=border)", output="image")), pictures),
        "SO(2) on pictures": lambda: (symmetrize(
            Pixels(), Symmetry("SO(2)", input="image", output="invariant"), "orbit", samples=6), pictures),
        "Shifts": lambda: (symmetrize(dense, Symmetry("Shifts(6,6)", input="image", output="image")), pictures),
        "channels last": lambda: (symmetrize(
            ChannelsLast(), Symmetry("Cyclic(4)", input="image(channels=last)", output="image(channels=last)")),
            pictures.movedim(1, -1)),
        "field": lambda: (symmetrize(Pixels(dense=True, channels=2), Symmetry("Dihedral(4)", input="field", output="field")),
                          normal(4, 2, 6, 6)),
        "E(3)": lambda: (symmetrize(Cloud(), Symmetry("E(3)", input="points", output="invariant")), cloud),
        "SE(3) canonical": lambda: (symmetrize(
            vectors, Symmetry("SE(3)", input="points", output="points"), "canonical"), cloud),
        "SE(2)": lambda: (symmetrize(
            Cloud(d=2, vectors=True), Symmetry("SE(2)", input="points", output="points")), flat),
        "SO(4)": lambda: (symmetrize(Cloud(d=4), Symmetry("SO(4)", input="vectors", output="invariant")), normal(4, 5, 4)),
        "Similarity(2)": lambda: (symmetrize(Cloud(d=2), Symmetry("Similarity(2)", input="points", output="invariant")), flat),
        "Translation(3)": lambda: (symmetrize(vectors, Symmetry("Translation(3)", input="points", output="points")), cloud),
        "Scaling(3)": lambda: (symmetrize(Cloud(), Symmetry("Scaling(3)", input="points", output="invariant")), cloud),
        "three points": lambda: (symmetrize(
            vectors, Symmetry("SE(3)", input="points", output="points"), frame=PointsFrame((0, 2, 1))), cloud),
        "two points": lambda: (symmetrize(
            Cloud(d=2), Symmetry("SE(2)", input="points", output="invariant"), frame=PointsFrame((0, 1))), flat),
        "Octahedral": lambda: (symmetrize(
            Cloud(), Symmetry("Octahedral()", input="pseudovectors", output="invariant")), cloud),
        "SO(3) orbit": lambda: (symmetrize(
            vectors, Symmetry("SO(3)", input="points", output="points"), "orbit", samples=5), cloud),
        "sign": lambda: (symmetrize(Cloud(), Symmetry("O(1)", input="sign", output="invariant")), cloud),
        "sorted sets": lambda: (symmetrize(Cloud(), Symmetry("Symmetric(5)", input="permuted", output="invariant")), cloud),
        "sorted sets, rows out": lambda: (symmetrize(
            vectors, Symmetry("Symmetric(5)", input="permuted", output="permuted")), cloud),
        "all orders": lambda: (symmetrize(
            Cloud(3), Symmetry("Symmetric(3)", input="permuted", output="invariant"), "orbit"), normal(4, 3, 3)),
        "sorted graphs": lambda: (symmetrize(Graphs(3), Symmetry("Symmetric(3)", input="graph", output="invariant")), graphs(3)),
        "all orders of graphs": lambda: (symmetrize(
            Graphs(3), Symmetry("Symmetric(3)", input="graph", output="invariant"), "orbit"), graphs(3)),
        "Symmetric x E(2)": lambda: (symmetrize(
            Cloud(d=2), Symmetry("Symmetric(5) x E(2)", input="permuted * points", output="invariant")), flat),
        "Symmetric x E(3)": lambda: (symmetrize(
            vectors, Symmetry("Symmetric(5) x E(3)", input="permuted * points", output="permuted * points")), cloud),
        "Cyclic(4) x O(1)": lambda: (symmetrize(
            dense, Symmetry("Cyclic(4) x O(1)", input="image * sign", output="image * sign")), pictures),
        "mask": lambda: (symmetrize(Masked(), Symmetry("SE(3)", input="points", output="invariant"), "canonical"), cloud, mask),
        "sorted with mask": lambda: (symmetrize(
            Masked(), Symmetry("Symmetric(5)", input="permuted", output="invariant")), cloud, mask),
        "two arguments": lambda: (symmetrize(
            Timed(), Symmetry("Translation(3)", input="points", output="invariant")), cloud, normal(4)),
        "molecules": lambda: (symmetrize(Molecules(), molecule), {"pos": cloud, "charge": normal(4, 5, 1)}),
        "anchored patches": lambda: (nn.Sequential(
            AnchoredPatchEmbed(1, 4, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten()), pictures),
        "anchored maps": lambda: (Anchored(
            nn.Sequential(nn.Conv2d(1, 2, 2, stride=2), nn.Upsample(scale_factor=2)), 2), pictures),
    }  # fmt: skip
    model, *arguments = every[name]()
    return model.eval(), tuple(arguments)


NAMES = {
    "Cyclic(4)": ["picture"], "Dihedral(4)": ["picture"], "rectangle": ["picture"], "Cyclic(8)": ["picture"],
    "bicubic": ["picture"], "SO(2) on pictures": ["picture"], "Shifts": ["picture"], "channels last": ["photo"],
    "field": ["picture"], "E(3)": ["cloud"], "SE(3) canonical": ["cloud"], "SE(2)": ["cloud"], "SO(4)": ["cloud"],
    "Similarity(2)": ["cloud"], "Translation(3)": ["cloud"], "Scaling(3)": ["cloud"], "three points": ["cloud"],
    "two points": ["cloud"], "Octahedral": ["cloud"], "SO(3) orbit": ["cloud"], "sign": ["cloud"],
    "sorted sets": ["cloud"], "sorted sets, rows out": ["cloud"], "all orders": ["cloud"],
    "sorted graphs": ["graph_adj"], "all orders of graphs": ["graph_adj"], "Symmetric x E(2)": ["cloud"],
    "Symmetric x E(3)": ["cloud"], "Cyclic(4) x O(1)": ["picture"], "mask": ["cloud", "mask"],
    "sorted with mask": ["cloud", "mask"], "two arguments": ["cloud", "time"],
    "molecules": ["molecule_pos", "molecule_charge"], "anchored patches": ["input"], "anchored maps": ["x"],
}  # fmt: skip
"""Every case, and the inputs of its exported program: the names of the model's own arguments."""

IN_ONNX = [
    "Cyclic(4)", "Cyclic(8)", "field", "SE(3) canonical", "SE(2)", "Similarity(2)", "Scaling(3)", "three points", "Octahedral",
    "sorted sets", "sorted graphs", "Symmetric x E(2)", "Cyclic(4) x O(1)", "sorted with mask", "two arguments",
    "anchored patches",
]  # fmt: skip
"""One of each kind: the road to ONNX takes a second for every hundred nodes."""


def same(found: Any, expected: Any) -> None:
    for one, other in zip(tree_leaves(found), tree_leaves(expected), strict=True):
        assert one.shape == other.shape
        torch.testing.assert_close(one, other, **CLOSE)


def to_onnx(model: nn.Module, arguments: tuple[Any, ...], path: Path) -> Path:
    """Export with an open batch. The exporter calls functions of torch that announce their end."""
    sizes = tree_map(lambda _: {0: BATCH}, arguments)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.filterwarnings("ignore", "# The axis name", UserWarning)  # two inputs share the batch
        # The empty dict tells the exporter that a dict before it is an argument, and none by names.
        program = torch.onnx.export(model, (*arguments, {}), dynamo=True, dynamic_shapes=sizes, verbose=False)
    program.save(str(path))
    return path


def batches(arguments: tuple[Any, ...]) -> list[tuple[Any, ...]]:
    """A batch of one, of two and of seven samples, from the arguments and their reverse."""
    twice = tree_map(lambda t: torch.cat([t, t.flip(0)]), arguments)
    return [tree_map(lambda t, n=n: t[:n], twice) for n in (1, 2, 7)]


@torch.no_grad()
@pytest.mark.parametrize("name", NAMES)
def test_compile(name):
    model, arguments = case(name)
    torch.compiler.reset()
    same(torch.compile(model, fullgraph=True, backend="eager")(*arguments), model(*arguments))
    torch.compiler.reset()


@torch.no_grad()
@pytest.mark.parametrize("name", NAMES)
def test_export_with_an_open_batch(name):
    model, arguments = case(name)
    sizes = tree_map(lambda _: {0: BATCH}, arguments)
    program = torch.export.export(model, arguments, dynamic_shapes=sizes)
    assert list(program.graph_signature.user_inputs) == NAMES[name]
    called = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
    assert not [op for op in called if "linalg_inv" in op or "linalg_eigh" in op or "mT" in op or "linalg_det" in op]
    exported = program.module()
    for given in batches(arguments):
        same(exported(*given), model(*given))


@torch.no_grad()
@pytest.mark.extra
@pytest.mark.slow
@pytest.mark.parametrize("name", IN_ONNX)
def test_onnxruntime_gives_the_same_numbers(name, tmp_path):
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    model, arguments = case(name)
    path = to_onnx(model, arguments, tmp_path / "model.onnx")
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert [i.name for i in session.get_inputs()] == NAMES[name]
    for given in batches(arguments):
        feed = dict(zip(NAMES[name], [leaf.numpy() for leaf in tree_leaves(given)], strict=True))
        found = [torch.from_numpy(array) for array in session.run(None, feed)]
        same(found, tree_leaves(model(*given)))


@pytest.mark.extra
def test_audit_of_an_exported_model(tmp_path):
    """What leaves torch is as symmetric as what was in it."""
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    model, (cloud,) = case("SE(2)")
    path = to_onnx(model, (cloud,), tmp_path / "exact.onnx")
    report = er.audit(path, Symmetry("SE(2)", input="points", output="points"), cloud, elements=20)
    assert report.worst_error < 1e-5
    assert er.audit(model.model, Symmetry("SE(2)", input="points", output="points"), cloud, elements=20).error > 0.1


# --- near ties, ties, degenerate inputs -------------------------------------------------------------------------------
@torch.no_grad()
@pytest.mark.parametrize("gap", [1e-2, 1e-4, 1e-6])
def test_exported_axes_near_ties(gap):
    """Rounding turns axes by epsilon over the gap of the eigenvalues, in LAPACK's decomposition and in this one alike."""
    torch.manual_seed(0)
    corners = torch.tensor([[1.0, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1], [0, 0, 0]], dtype=torch.float64)
    cloud = corners * (1 + gap * torch.arange(3.0, dtype=torch.float64))
    turns = er.SO(3).sample(4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = cloud @ turns.mT
    model = symmetrize(Cloud(vectors=True).double(), Symmetry("SO(3)", input="vectors", output="vectors")).eval()
    exported = torch.export.export(model, (x,)).module()
    torch.testing.assert_close(exported(x), model(x), rtol=0, atol=100 * np.finfo(float).eps / gap)
    back = exported(x) @ turns
    torch.testing.assert_close(back, back[:1].expand_as(back), rtol=0, atol=100 * np.finfo(float).eps / gap)


@torch.no_grad()
def test_warnings_in_eager_mode_alone():
    model, (cloud,) = case("E(3)")
    tied = torch.stack([torch.tensor([[1.0, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1], [0, 0, 0]])] * 4)
    with pytest.warns(DegenerateFrameWarning, match="does not determine its frame"):
        model(tied)
    with warnings.catch_warnings():
        warnings.simplefilter("error", DegenerateFrameWarning)
        assert bool(torch.compile(model, fullgraph=True, backend="eager")(tied).isfinite().all())
        exported = torch.export.export(model, (cloud,)).module()
        assert bool(exported(tied).isfinite().all())
    torch.compiler.reset()


@torch.no_grad()
def test_tied_nodes():
    """One order is right for equal nodes and invariant answers; where others count as well, the answer is NaN."""
    model, (cloud,) = case("sorted sets")
    tied = cloud.clone()
    tied[1, 3] = tied[1, 0]
    exported = torch.export.export(model, (cloud,)).module()
    same(exported(tied), model(tied))

    model, _ = case("sorted sets, rows out")
    exported = torch.export.export(model, (cloud,)).module()
    found, expected = exported(tied), model(tied)
    assert bool(found[1].isnan().all())
    keep = [0, 2, 3]
    same(found[keep], expected[keep])
    calm = symmetrize(model.model, model.symmetry, on_degenerate="allow").eval()
    assert bool(torch.export.export(calm, (cloud,)).module()(tied).isfinite().all())

    model, (graph,) = case("sorted graphs")
    path = torch.tensor([[0.0, 1, 0], [1, 0, 1], [0, 1, 0]])
    some = {"adj": torch.cat([path[None], graph["adj"][1:]])}
    found, expected = torch.export.export(model, (graph,)).module()(some), model(some)
    assert bool(found[0].isnan().all())
    assert bool(expected.isfinite().all())
    same(found[1:], expected[1:])


def test_a_number_of_orders_is_refused_with_what_exports():
    sym = Symmetry("Symmetric(5)", input="permuted", output="invariant")
    model = symmetrize(Cloud(), sym, samples=3).eval()
    with pytest.raises(OrbitError, match=r"samples = 3: .*leave out samples= .*or use how='orbit'"):
        torch.export.export(model, (normal(4, 5, 3),))


# --- names ------------------------------------------------------------------------------------------------------------
def test_arguments_have_the_names_of_the_model():
    model, (cloud, time) = case("two arguments")
    assert list(inspect.signature(model.forward).parameters) == ["cloud", "time", "scale"]
    expected = model(cloud, time)
    for found in (
        model(cloud=cloud, time=time),
        model(cloud, time=time, scale=1.0),
        model(x=cloud, time=time),
        pickle.loads(pickle.dumps(model))(cloud=cloud, time=time),
        copy.deepcopy(model)(cloud=cloud, time=time),
    ):
        torch.testing.assert_close(found, expected, rtol=0, atol=0)
    with pytest.raises(TypeError, match="Symmetrized needs the input 'cloud'"):
        model(time=time)


def test_a_copy_is_a_model_of_its_own():
    model, (cloud,) = case("SE(2)")
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.model.outer.weight *= 2
    assert not torch.allclose(other(cloud), model(cloud))


def test_a_mask_by_position_is_a_mask():
    model, (cloud, mask) = case("mask")
    torch.testing.assert_close(model(cloud, mask), model(cloud, mask=mask), rtol=0, atol=0)
    moved = cloud.clone()
    moved[~mask] = 7.0
    torch.testing.assert_close(model(moved, mask), model(cloud, mask), rtol=0, atol=0)


def test_nested_wrappers_and_functions_keep_the_names():
    inner, (cloud,) = case("sorted sets")
    outer = symmetrize(inner, Symmetry("E(3)", input="points", output="invariant"))
    assert list(inspect.signature(outer.forward).parameters) == ["cloud"]
    function = symmetrize(lambda pos: pos.square().sum((1, 2)), Symmetry("SO(3)", input="points", output="invariant"))
    assert list(inspect.signature(function.forward).parameters) == ["pos"]
    torch.testing.assert_close(function(pos=cloud), cloud.square().sum((1, 2)))


# --- numpy functions and ONNX files -----------------------------------------------------------------------------------
WEIGHTS = np.random.default_rng(0).normal(size=(15, 2)).astype(np.float32)


def scores(pos: np.ndarray) -> np.ndarray:
    return np.tanh(pos.reshape(len(pos), -1).astype(np.float32) @ WEIGHTS + 1)


def torch_scores(pos: Tensor) -> Tensor:
    return (pos.flatten(1) @ torch.from_numpy(WEIGHTS) + 1).tanh()


@pytest.mark.parametrize("group", ["SO(3)", "E(3)"])
def test_numpy_functions(group):
    sym = Symmetry(group, input="points", output="invariant")
    cloud = normal(4, 5, 3)
    found = symmetrize(scores, sym)
    torch.testing.assert_close(found(cloud), symmetrize(torch_scores, sym)(cloud), **CLOSE)
    assert er.audit(found, sym, cloud, elements=20).worst_error < 1e-5


def test_numpy_functions_have_no_gradient():
    model = symmetrize(scores, Symmetry("SO(3)", input="points", output="invariant"))
    cloud = normal(4, 5, 3)
    message = r"a gradient was asked for through scores, a numpy function or an ONNX file"
    with pytest.raises(ModelError, match=message):
        model(cloud.clone().requires_grad_()).sum().backward()
    with pytest.raises(ModelError, match=message):
        torch.func.grad(lambda x: model(x).sum())(cloud)
    with pytest.raises(ModelError, match=message):
        torch.func.jvp(model, (cloud,), (cloud,))
    with pytest.raises(ModelError, match="cannot be compiled or exported by torch"):
        torch.export.export(model, (cloud,))
    with torch.no_grad():
        assert not model(cloud.clone().requires_grad_()).requires_grad


def test_a_function_that_mixes_tensors_and_arrays():
    """It computes with tensors until one asks for a gradient; that is no reason for a silent zero."""
    matrix = WEIGHTS

    def mixed(pos: Any) -> Any:
        return np.asarray(pos.reshape(len(pos), -1)) @ matrix

    model = symmetrize(mixed, Symmetry("SO(3)", input="points", output="invariant"))
    cloud = normal(4, 5, 3)
    plain = model(cloud)
    assert isinstance(plain, Tensor)
    answer = model(cloud.clone().requires_grad_())
    torch.testing.assert_close(answer.detach(), plain)
    with pytest.raises(ModelError, match="a gradient was asked for through mixed"):
        answer.sum().backward()


def test_errors_of_torch_functions_stay_theirs():
    def broken(pos: Tensor) -> Tensor:
        return pos @ torch.ones(7, 2)

    with pytest.raises(RuntimeError, match=r"mat1 and mat2|shapes cannot be multiplied|size"):
        symmetrize(broken, Symmetry("SO(3)", input="points", output="invariant"))(normal(4, 5, 3))


@pytest.mark.extra
def test_onnx_files(tmp_path):
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    plain, cloud = Cloud().eval(), normal(4, 5, 3)
    path = to_onnx(plain, (cloud,), tmp_path / "net.onnx")
    sym = Symmetry("E(3)", input="points", output="invariant")
    expected = symmetrize(plain, sym)(cloud).detach()
    for given in (path, str(path), er.onnx(path)):
        model = symmetrize(given, sym)
        torch.testing.assert_close(model(cloud), expected, **CLOSE)
        with pytest.raises(ModelError, match=r"through net\.onnx, a numpy function or an ONNX file, which has none"):
            model(cloud.clone().requires_grad_()).sum().backward()
    assert er.audit(symmetrize(path, sym), sym, cloud, elements=20).worst_error < 1e-5
