"""`er.onnx`: recurrent states, scalar inputs and chosen outputs, on a graph built like a voice detector."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

import erlangen as er
from erlangen import cli
from erlangen.errors import DataError, ModelError, UnknownNameError
from erlangen.measure.targets import load_target

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytestmark = pytest.mark.extra

FLOAT, INT = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64
node = onnx.helper.make_node
value = onnx.helper.make_tensor_value_info
RNG = np.random.default_rng(0)
WEIGHTS = {
    "encoder": RNG.normal(size=(512, 128)).astype(np.float32) / 20,
    "head": RNG.normal(size=(128, 1)).astype(np.float32),
}
SIGN = er.Symmetry("O(1)", input="sign", output="invariant")


def write(
    path: Path,
    batch: int | str = "batch",
    *,
    state_size: int | str | None = None,
    sound_size: int | str | None = None,
    rate: list[int] | None = None,
) -> Path:
    """Probability ``output [B, 1]`` and ``stateN [2, B, 128]`` of ``input [B, 512]``, ``state [2, B, 128]``, ``sr``."""
    nodes = [
        node("Mul", ["input", "input"], ["power"]),
        node("Cast", ["sr"], ["rate"], to=FLOAT),
        node("Div", ["rate", "khz"], ["scale"]),
        node("Mul", ["power", "scale"], ["scaled"]),
        node("MatMul", ["scaled", "encoder"], ["code"]),
        node("Unsqueeze", ["code", "zero"], ["row"]),
        node("Add", ["state", "row"], ["sum"]),
        node("Tanh", ["sum"], ["stateN"]),
        node("ReduceMean", ["stateN"], ["mean"], axes=[0], keepdims=0),
        node("MatMul", ["mean", "head"], ["score"]),
        node("Sigmoid", ["score"], ["output"]),
    ]
    constants = {**WEIGHTS, "khz": np.array(16000.0, np.float32), "zero": np.array([0])}
    inputs = [
        value("input", FLOAT, [sound_size or batch, 512]),
        value("state", FLOAT, [2, state_size or batch, 128]),
        value("sr", INT, [] if rate is None else rate),
    ]
    answers = [value("output", FLOAT, [batch, 1]), value("stateN", FLOAT, [2, batch, 128])]
    tensors = [onnx.numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = onnx.helper.make_graph(nodes, "vad", inputs, answers, tensors)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    return path


def by_hand(sound: np.ndarray, state: np.ndarray, rate: float = 16000) -> tuple[np.ndarray, np.ndarray]:
    """The same in numpy, with the batch first: probabilities ``[B, 1]`` and states ``[B, 2, 128]``."""
    code = (sound**2 * (rate / 16000)) @ WEIGHTS["encoder"]
    after = np.tanh(state + code[:, None])
    return 1 / (1 + np.exp(-after.mean(1) @ WEIGHTS["head"])), after


def sounds(count: int = 5) -> torch.Tensor:
    return torch.from_numpy(RNG.normal(size=(count, 512)).astype(np.float32))


def states(count: int = 5) -> torch.Tensor:
    return torch.from_numpy(RNG.normal(size=(count, 2, 128)).astype(np.float32))


def close(found: torch.Tensor, expected: np.ndarray) -> None:
    # Sums of 512 products in float32, in another order.
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4, atol=1e-5)


@pytest.fixture
def path(tmp_path):
    return write(tmp_path / "vad.onnx")


# --- the answers ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("batch", ["batch", 1, 3, 2], ids=str)
@pytest.mark.parametrize("count", [1, 5])
def test_state_and_rate_fixed(tmp_path, batch, count):
    """A batch of two has a state whose first axis is as long, and is no batch by that."""
    path = write(tmp_path / "vad.onnx", batch)
    x, rest = sounds(count), np.zeros((count, 2, 128), np.float32)
    model = er.onnx(path, fixed={"sr": 8000, "state": 0}, batch_axis={"state": 1, "stateN": 1}, outputs="output")
    close(model(x), by_hand(x.numpy(), rest, 8000)[0])
    everything = er.onnx(path, fixed={"sr": 16000, "state": 0}, batch_axis={"state": 1, "stateN": 1})
    probability, after = everything(x)
    close(probability, by_hand(x.numpy(), rest)[0])
    close(after, by_hand(x.numpy(), rest)[1])


@pytest.mark.parametrize("batch", ["batch", 1, 4], ids=str)
def test_a_state_from_the_data(tmp_path, batch):
    """Data and answers have the batch first, the file does not."""
    path = write(tmp_path / "vad.onnx", batch)
    x, state = sounds(), states()
    axes = {"state": 1, "stateN": 1}
    model = er.onnx(path, fixed={"sr": 16000}, batch_axis=axes, outputs=["stateN", "output"])
    expected, after = by_hand(x.numpy(), state.numpy())
    for given in ({"state": state, "input": x}, (x, state)):
        found = model(given)
        assert isinstance(found, tuple)
        close(found[0], after)
        close(found[1], expected)
    one = er.onnx(path, fixed={"sr": 16000}, batch_axis=axes, outputs=["output"])({"state": state, "input": x})
    assert isinstance(one, tuple)
    assert len(one) == 1


def test_the_name_of_the_open_size_tells_the_axis(path):
    x, state = sounds(), states()
    probability, after = er.onnx(path, fixed={"sr": 16000})({"input": x, "state": state})
    close(probability, by_hand(x.numpy(), state.numpy())[0])
    close(after, by_hand(x.numpy(), state.numpy())[1])


def test_fixed_arrays_are_repeated_over_the_batch(path):
    x, state = sounds(), states(1)
    expected = by_hand(x.numpy(), state.numpy())[0]
    for given in (state.movedim(0, 1), state.movedim(0, 1).numpy().astype(np.float64)):
        model = er.onnx(path, fixed={"sr": np.int32(16000), "state": given}, outputs="output")
        close(model(x), expected)
    with pytest.raises(ModelError, match=r"fixed\['state'\] has 4 entries on its batch axis 1 for a batch of 5"):
        er.onnx(path, fixed={"sr": 16000, "state": np.zeros((2, 4, 128))}, outputs="output")(x)


def test_one_axis_for_all(tmp_path):
    """Time first and batch second, for inputs and outputs alike."""
    graph = onnx.helper.make_graph(
        [node("Mul", ["x", "x"], ["y"])], "g", [value("x", FLOAT, [7, "n", 2])], [value("y", FLOAT, [7, "n", 2])]
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, str(tmp_path / "square.onnx"))
    x = torch.arange(42.0).view(3, 7, 2)
    assert torch.equal(er.onnx(tmp_path / "square.onnx", batch_axis=1)(x), x.square())


# --- in the verbs -----------------------------------------------------------------------------------------------------
def test_audit_and_symmetrize(path):
    """Its power spectrum makes the detector blind to the sign; with a state that moves it is not."""
    x = sounds()
    model = er.onnx(path, fixed={"sr": 16000, "state": 0}, outputs="output")
    report = er.audit(model, SIGN, x)
    assert report.certificate == "exact"
    assert report.worst_error == 0
    assert report.model == "vad.onnx"

    both = er.Symmetry("O(1)", input={"input": "sign", "state": "sign"}, output="invariant")
    data = {"input": x, "state": states()}
    stateful = er.onnx(path, fixed={"sr": 16000}, outputs="output")
    assert er.audit(stateful, both, data).error > 0.01
    exact = er.symmetrize(stateful, both)
    assert er.audit(exact, both, data).worst_error < 1e-6
    expected = np.mean([by_hand(x.numpy(), s * data["state"].numpy())[0] for s in (1, -1)], 0)
    close(exact(data), expected)


def test_pickling(path):
    x = sounds()
    model = er.onnx(path, fixed={"sr": 16000, "state": 0}, batch_axis={"state": 1}, outputs="output")
    assert torch.equal(pickle.loads(pickle.dumps(model))(x), model(x))


def test_command_line(tmp_path, monkeypatch, capsys):
    write(tmp_path / "vad.onnx", 1)
    monkeypatch.chdir(tmp_path)
    np.savez("sounds.npz", x=sounds().numpy())
    words = ["audit", "vad.onnx", "--group", "O(1)", "--input", "sign", "--output", "invariant", "--data", "sounds.npz"]
    options = ["--fixed", "sr=16000", "state=0", "--batch-axis", "state=1", "stateN=1", "--outputs", "output"]
    assert cli.run([*words, *options, "--json", "-"]) == 0
    numbers = json.loads(capsys.readouterr().out)
    assert numbers["samples"] == 5
    assert numbers["model"] == "vad.onnx"
    assert cli.run(words) == 2
    assert "has the inputs input [1, 512], state [2, 1, 128], sr []" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fixed": ["sr"]}, "--fixed 'sr': write name=number"),
        ({"fixed": ["sr=fast"]}, "--fixed 'sr=fast': 'fast' is no number"),
        ({"batch_axis": ["state=1.5"]}, "--batch-axis 'state=1.5': an axis is a whole number"),
        ({"target": "net.py:model", "outputs": ["output"]}, "--outputs: these are options of .onnx files"),
    ],
    ids=["no value", "no number", "no axis", "no onnx"],
)
def test_words_of_the_command_line_that_do_not_fit(path, options, message):
    with pytest.raises(DataError, match=message.replace("[", r"\[")):
        load_target(**{"target": str(path), **options})


# --- errors -----------------------------------------------------------------------------------------------------------
NAMES = r"it has input \['batch', 512\], state \[2, 'batch', 128\], sr \[\]"


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"fixed": {"rate": 1}}, UnknownNameError, r"fixed: vad\.onnx has no 'rate'; " + NAMES),
        ({"batch_axis": {"h": 1}}, UnknownNameError, r"batch_axis: vad\.onnx has no 'h'; " + NAMES),
        ({"outputs": "prob"}, UnknownNameError, r"outputs: vad\.onnx has no 'prob'; it has output \['batch', 1\], stateN"),
        ({"batch_axis": {"state": 3}}, ModelError, r"batch_axis = 3 for state \[2, 'batch', 128\]: .* 0 to 2"),
        ({"fixed": {"sr": 0.5}}, ModelError, r"fixed\['sr'\] = 0\.5 is no value of tensor\(int64\)"),
        ({"fixed": {"sr": "fast"}}, ModelError, r"fixed\['sr'\] = 'fast' is no number"),
        ({"fixed": {"state": [[0.0]]}}, ModelError, r"fixed\['state'\] has shape \[1, 1\], but the input is state \[2"),
        ({"fixed": {"state": torch.zeros(3, 1, 128)}}, ModelError, r"fixed\['state'\] has shape \[3, 1, 128\], but"),
    ],
    ids=["input", "axis name", "output", "axis", "fraction", "text", "rank", "size"],
)  # fmt: skip
def test_options_that_do_not_fit(path, options, error, message):
    with pytest.raises(error, match=message):
        er.onnx(path, **options)


def test_a_missing_input_is_named_with_its_remedy(path):
    with pytest.raises(ModelError, match=r"inputs \['input', 'state', 'sr'\], but x is tensor\[5, 512\].*give state \[2, "
                       r"'batch', 128\], sr \[\] too, or fix values: er\.onnx\(path, fixed="):  # fmt: skip
        er.audit(path, SIGN, sounds())


@pytest.mark.parametrize("sizes", [{"batch": 1}, {"state_size": 3}, {"rate": [1]}], ids=["first", "open", "rate"])
def test_first_axes_that_are_no_batch(tmp_path, sizes):
    """Sizes that the inputs do not share are refused; the smallest of them is no size of a batch."""
    path = write(tmp_path / "vad.onnx", **sizes)
    with pytest.raises(ModelError, match=r"vad\.onnx has the inputs input .*, state .*, sr .* no batch that they share; name "
                       r"the axis of the batch, er\.onnx\(path, batch_axis="):  # fmt: skip
        er.audit(path, SIGN, sounds())


def test_an_output_without_the_batch(tmp_path):
    path = write(tmp_path / "vad.onnx", 1)
    model = er.onnx(path, fixed={"sr": 16000, "state": 0}, batch_axis={"state": 1})
    with pytest.raises(ModelError, match=r"returned stateN of shape \[2, 1, 128\] for a batch of 1, which is not on axis 0; "
                       r"name it, er\.onnx\(path, batch_axis={'stateN': axis}\), or choose others"):  # fmt: skip
        model(sounds())


def test_one_number_for_an_axis_that_is_open(tmp_path):
    path = write(tmp_path / "vad.onnx", "batch", sound_size="clips")
    with pytest.raises(ModelError, match=r"the size of the axes \[1\] of state .* is open, .* give an array"):
        er.onnx(path, fixed={"sr": 16000, "state": 0}, batch_axis={"state": 0})


# --- sessions ---------------------------------------------------------------------------------------------------------
def test_a_session(path):
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for verb in (lambda: er.audit(session, SIGN, sounds()), lambda: er.symmetrize(session, SIGN)):
        with pytest.raises(ModelError, match=r"model is a InferenceSession; .*for a session that is er\.onnx\(path\)"):
            verb()

    def run(sound):
        rest = np.zeros((2, len(sound), 128), np.float32)
        return session.run(["output"], {"input": sound, "state": rest, "sr": np.array(16000)})[0]

    x = sounds()
    assert er.audit(run, SIGN, x).worst_error == 0
    close(er.symmetrize(run, SIGN)(x), run(x.numpy()))

    def wrong(sound):
        return session.run(["output"], {"input": sound})[0]

    for call in (lambda: er.audit(wrong, SIGN, x), lambda: er.symmetrize(wrong, SIGN)(x)):
        with pytest.raises(Exception, match=r"input|Input") as caught:
            call()
        assert any("give the file instead, er.onnx(path)" in note for note in caught.value.__notes__)
