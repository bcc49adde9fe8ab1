"""ONNX files under the audit: graphs built by hand with the weights of a torch network, so both must tell the same."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import erlangen as er
from erlangen.errors import DataError, ModelError
from erlangen.measure import Model, OnnxModel

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytestmark = pytest.mark.extra

SYM = er.Symmetry("Dihedral(4)", input="image", output="invariant")


class Net(nn.Module):
    """Class scores [B, 3] of images [B, 2, 6, 6]."""

    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(2, 4, 3), nn.Linear(64, 3)

    def forward(self, x):
        return self.head(self.conv(x).relu().flatten(1))


def value(name, shape, kind=onnx.TensorProto.FLOAT):
    return onnx.helper.make_tensor_value_info(name, kind, shape)


def write(path: Path, nodes, inputs, outputs, weights) -> Path:
    tensors = [onnx.numpy_helper.from_array(w.detach().numpy(), name) for name, w in weights.items()]
    graph = onnx.helper.make_graph(nodes, "graph", inputs, outputs, tensors)
    # Versions that runtimes of some years read.
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    return path


def write_net(path: Path, net: Net, batch: int | str, outputs=("scores",)) -> Path:
    """Conv, Relu, Flatten, Gemm; also "features", the input of the last layer, where that is asked for."""
    node = onnx.helper.make_node
    nodes = [
        node("Conv", ["image", "kernel", "shift"], ["map"]),
        node("Relu", ["map"], ["positive"]),
        node("Flatten", ["positive"], ["features"]),
        node("Gemm", ["features", "matrix", "bias"], ["scores"], transB=1),
    ]
    weights = {
        "kernel": net.conv.weight, "shift": net.conv.bias, "matrix": net.head.weight, "bias": net.head.bias,
    }  # fmt: skip
    sizes = {"scores": [batch, 3], "features": [batch, 64]}
    return write(path, nodes, [value("image", [batch, 2, 6, 6])], [value(o, sizes[o]) for o in outputs], weights)


@pytest.fixture
def net():
    return Net().eval()


@pytest.fixture
def images(generator):
    return torch.rand(7, 2, 6, 6, generator=generator)


@pytest.mark.parametrize("batch", ["batch", 1, 4], ids=["dynamic", "fixed 1", "fixed 4"])
def test_equal_to_torch(tmp_path, net, images, batch):
    """A graph with a fixed batch size is fed in pieces, the last one filled up."""
    run = OnnxModel(write_net(tmp_path / "net.onnx", net, batch))
    for count in (1, 4, 7):
        torch.testing.assert_close(run(images[:count]), net(images[:count]).detach(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("batch", ["batch", 4])
def test_audit_of_a_file(tmp_path, net, images, batch):
    path = write_net(tmp_path / "net.onnx", net, batch)
    y = torch.arange(7) % 3
    from_torch = er.audit(net, SYM, images, y, chunk=4)
    for target in (path, str(path), OnnxModel(path)):
        report = er.audit(target, SYM, images, y, chunk=4)
        torch.testing.assert_close(report.errors, from_torch.errors, rtol=1e-4, atol=1e-6)
        assert torch.equal(report.scores, from_torch.scores)
        assert report.certificate == "exact"
        assert report.error > 0.01
    assert er.audit(path, SYM, images).model == "net.onnx"


def test_an_equivariant_graph_passes(tmp_path, images):
    """A circular difference of neighbours commutes with every roll."""
    node = onnx.helper.make_node
    path = write(
        tmp_path / "roll.onnx",
        [
            node("Slice", ["image", "zero", "one", "last"], ["first"]),
            node("Slice", ["image", "one", "six", "last"], ["rest"]),
            node("Concat", ["rest", "first"], ["rolled"], axis=3),
            node("Sub", ["image", "rolled"], ["difference"]),
        ],
        [value("image", ["batch", 2, 6, 6])],
        [value("difference", ["batch", 2, 6, 6])],
        {name: torch.tensor([number]) for name, number in (("zero", 0), ("one", 1), ("six", 6), ("last", 3))},
    )  # fmt: skip
    rolls = er.Symmetry("Shifts(6,6)", input="image", output="image")
    report = er.audit(path, rolls, images)
    assert report.worst_error == 0
    assert report.certificate == "exact"


def test_several_outputs_are_a_tuple(tmp_path, net, images):
    path = write_net(tmp_path / "two.onnx", net, "batch", outputs=("features", "scores"))
    features, scores = Model(path)(images)
    torch.testing.assert_close(scores, net(images).detach(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(features, net.conv(images).relu().flatten(1).detach(), rtol=1e-5, atol=1e-6)
    sym = er.Symmetry("Dihedral(4)", input="image", output=("invariant", "invariant"))
    assert er.audit(path, sym, images).error > 0.01


@pytest.fixture
def two_inputs(tmp_path):
    """Kinetic energy of masses [B, N, 1] and velocities [B, N, 3]: invariant under rotations."""
    node = onnx.helper.make_node
    return write(
        tmp_path / "energy.onnx",
        [
            node("Mul", ["velocities", "velocities"], ["squares"]),
            node("Mul", ["squares", "masses"], ["terms"]),
            node("Flatten", ["terms"], ["flat"]),
            node("ReduceSum", ["flat", "axis"], ["energy"], keepdims=1),
        ],
        [value("masses", ["batch", 5, 1]), value("velocities", ["batch", 5, 3])],
        [value("energy", ["batch", 1])],
        {"axis": torch.tensor([1])},
    )


@pytest.mark.parametrize("form", ["dict", "tuple"])
def test_inputs_by_name_and_by_position(two_inputs, generator, form):
    masses = torch.rand(4, 5, 1, generator=generator) + 1
    velocities = torch.randn(4, 5, 3, generator=generator)
    if form == "dict":
        x = {"velocities": velocities, "masses": masses}
        actions = {"velocities": "vectors", "masses": "invariant"}
    else:
        x, actions = (masses, velocities), ("invariant", "vectors")
    energy = Model(two_inputs)(x)
    torch.testing.assert_close(energy[:, 0], (masses * velocities.square()).sum((1, 2)))
    report = er.audit(two_inputs, er.Symmetry("O(3)", input=actions, output="invariant"), x, elements=30)
    assert report.worst_error < 1e-6
    assert report.to_dict()["model"] == "energy.onnx"


def test_pickling(tmp_path, net, images):
    """A session cannot be pickled; the model travels as its path."""
    run = OnnxModel(write_net(tmp_path / "net.onnx", net, "batch"))
    again = pickle.loads(pickle.dumps(run))
    assert torch.equal(again(images), run(images))


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (
            torch.rand(2, 3, 6, 6),
            r"takes image \['batch', 2, 6, 6\] of tensor\(float\), not image \[2, 3, 6, 6\].*Got: 3 Expected: 2",
        ),
        (torch.rand(2, 2, 6), r"net\.onnx takes image .*, not image \[2, 2, 6\] of float32.*Invalid rank"),
        (
            torch.rand(2, 2, 6, 6, dtype=torch.float64),
            r"net\.onnx takes image .* of tensor\(float\), not image .* of float64",
        ),
        (
            {"picture": torch.rand(2, 2, 6, 6)},
            r"net\.onnx has the inputs \['image'\], but x is {'picture'.*; give a dict with these names",
        ),
        (
            (torch.rand(2, 2, 6, 6), torch.rand(2)),
            r"net\.onnx has the inputs \['image'\], but x is \(tensor.*a tuple in their order",
        ),
    ],
    ids=["channels", "rank", "dtype", "name", "too many"],
)
def test_inputs_that_do_not_fit(tmp_path, net, x, message):
    with pytest.raises(ModelError, match=message):
        OnnxModel(write_net(tmp_path / "net.onnx", net, "batch"))(x)


@pytest.mark.parametrize("keep", [0, 20, 400])
def test_damaged_files(tmp_path, net, images, keep):
    path = write_net(tmp_path / "net.onnx", net, "batch")
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError, match=r"net\.onnx' is not a readable ONNX file"):
        er.audit(path, SYM, images)


def test_a_file_that_is_not_there_or_of_another_kind(tmp_path, images):
    with pytest.raises(DataError, match=r"none\.onnx': there is no such file"):
        er.audit(tmp_path / "none.onnx", SYM, images)
    np.save(tmp_path / "weights.npy", np.zeros(3))
    with pytest.raises(DataError, match=r"only \.onnx files can be run; pass a torch module as an object"):
        er.audit(tmp_path / "weights.npy", SYM, images)
