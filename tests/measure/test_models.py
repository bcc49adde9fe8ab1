"""What people bring: arrays and lists, estimators, functions of several arguments, one sample at a time."""

import types
import warnings
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn

import erlangen as er
from erlangen.errors import DataError, ErlangenError, ModelError
from erlangen.measure import Model, per_sample
from erlangen.measure.inputs import as_tree

TURNS = er.Symmetry("SO(2)", input="vectors", output="invariant")


def vectors(dtype=np.float64):
    return np.random.default_rng(0).normal(size=(6, 2)).astype(dtype)


def first(v):
    return v[:, :1]


# --- data -------------------------------------------------------------------------------------------------------------
class Foreign:
    """An array of another library, known by `__array__` alone."""

    def __init__(self, array):
        self.array = array

    def __array__(self, dtype=None, copy=None):
        return self.array if dtype is None else self.array.astype(dtype)


class ByDlpack:
    def __init__(self, tensor):
        self.tensor = tensor

    def __dlpack__(self, **options):
        return self.tensor.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.tensor.__dlpack_device__()


def brought(x):
    return {
        "array": x,
        "big-endian": x.astype(">f8"),
        "extended precision": x.astype(np.longdouble),
        "transposed in memory": np.asfortranarray(x),
        "backwards": x[::-1][::-1],
        "read-only": np.frombuffer(x.tobytes()).reshape(x.shape),
        "__array__": Foreign(x),
        "__dlpack__": ByDlpack(torch.from_numpy(x)),
    }


@pytest.mark.parametrize("kind", list(brought(vectors())))
def test_arrays_give_the_numbers_of_tensors(kind):
    x = vectors()
    expected = er.audit(first, TURNS, torch.from_numpy(x), torch.from_numpy(x[:, 0]), metric="mse", elements=8)
    given = brought(x)[kind]
    report = er.audit(first, TURNS, given, brought(x[:, 0])["array"].tolist(), metric="mse", elements=8)
    assert torch.equal(report.errors, expected.errors)
    torch.testing.assert_close(
        report.scores, expected.scores, rtol=1e-6, atol=1e-6
    )  # a list is float32, as torch's default
    assert torch.equal(er.equivariance_error(first, TURNS, given, elements=8), expected.errors.mean())
    assert er.measure.worst_case(first, TURNS, given, rounds=0).score > 0


def test_arrays_come_in_the_dtype_of_the_module():
    net = nn.Linear(2, 1)
    report = er.audit(net, TURNS, vectors(), np.zeros((6, 1)), elements=8, chunk=1)
    assert report.settings["dtype"] == "float32"
    assert torch.equal(
        report.errors, er.audit(net, TURNS, torch.from_numpy(vectors()).float(), elements=8, chunk=1).errors
    )
    assert er.audit(net.double(), TURNS, vectors(), elements=8).settings["dtype"] == "float64"
    assert er.audit(first, TURNS, vectors().tolist(), elements=8).settings["dtype"] == "float32"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ([1, 2, 3], torch.tensor([1, 2, 3])),
        ([[1.5, 2], [3, 4]], torch.tensor([[1.5, 2.0], [3.0, 4.0]])),
        ([True, False], torch.tensor([True, False])),
        ((0.5, 1.0), torch.tensor([0.5, 1.0])),
        (np.array([65535], np.uint16), torch.tensor([65535], dtype=torch.int32)),
        (np.array([2**40], np.uint64), torch.tensor([2**40])),
        (np.array([200], np.uint8), torch.tensor([200], dtype=torch.uint8)),
        (np.array([300], ">i2"), torch.tensor([300], dtype=torch.int16)),
        (np.array([1.5], ">f4"), torch.tensor([1.5])),
    ],
)
def test_numbers_and_dtypes(data, expected):
    read = as_tree(data)
    assert read.dtype == expected.dtype
    assert torch.equal(read, expected)


def test_structure_is_kept_and_tensors_are_not_copied():
    t = torch.ones(2)
    read = as_tree({"a": t, "b": (np.zeros(2), [np.ones(2)]), "c": [[1, 2], [3, 4]]})
    assert read["a"] is t
    assert isinstance(read["b"], tuple)
    assert isinstance(read["b"][1], list)
    assert read["c"].shape == (2, 2)
    pair = as_tree(types.SimpleNamespace)  # no data: comes back, and the checks of the caller name it
    assert pair is types.SimpleNamespace


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([[1.0], [1.0, 2.0]], "x is a list whose entries have different lengths"),
        (np.array(["cat", "dog"]), "x is an array of <U3, such as .*cat"),
        (np.array([1 + 1j]), "x is an array of complex128"),
        (np.array([2**63], np.uint64), "x holds integers of 2.63 or more"),
        ({"a": np.array([None])}, r"x\['a'\] is an array of object"),
    ],
)
def test_what_is_no_numbers_is_named(data, message):
    with pytest.raises(ErlangenError, match=message):
        er.audit(first, TURNS, data)


# --- several arguments ------------------------------------------------------------------------------------------------
PAIR = ("vectors", "vectors")


class Dot(nn.Module):
    def forward(self, a, b, scale: float = 1.0):
        return scale * (a * b).sum(-1)


class Named(nn.Module):
    """In the manner of Hugging Face: nothing must be given, answers are objects."""

    def forward(self, a=None, b=None, mask=None):
        assert mask is None
        return Answer(logits=(a * b).sum(-1, keepdim=True), hidden=None)


@dataclass
class Answer:
    logits: torch.Tensor
    hidden: None


class DictAnswer(dict):
    """As `transformers.utils.ModelOutput`: a dict whose entries are attributes too."""

    def __getattr__(self, name):
        return self[name] if name in self else self.__getattribute__(name)


@pytest.mark.parametrize(
    ("model", "names"),
    [
        (Dot(), True),
        (Dot(), False),
        (Named(), True),
        (Named(), False),
        (lambda *, a, b: (a * b).sum(-1), True),
        (lambda a, b: (a * b).sum(-1), True),
        (lambda a, b: np.einsum("bi,bi->b", a.numpy(), b.numpy()), False),
        (lambda **entries: (entries["a"] * entries["b"]).sum(-1), True),
        (lambda a, b: DictAnswer(logits=(a * b).sum(-1), cache="no tensor"), True),
        (lambda pair: (pair["a"] * pair["b"]).sum(-1), True),
        (lambda pair: (pair[0] * pair[1]).sum(-1), False),
        (lambda pair, scale=1.0: scale * (pair[0] * pair[1]).sum(-1), False),
        (lambda pair, scale=1.0: scale * (pair["a"] * pair["b"]).sum(-1), True),
        (torch.jit.script(Dot()), True),
        (torch.jit.script(Dot()), False),
    ],
)
def test_several_arguments_by_the_signature(model, names):
    """The scalar product of two vectors does not change as both turn; 1 % of one of them does."""
    a, b = torch.from_numpy(vectors()), torch.from_numpy(vectors() + 1)
    x = {"a": a, "b": b} if names else (a, b)
    action = {"a": "vectors", "b": "vectors"} if names else PAIR
    invariant = er.Symmetry("SO(2)", input=action, output="invariant")
    assert torch.equal(Model(model)(x).flatten(), (a * b).sum(-1))
    assert er.assert_equivariant(model, x, invariant) < 1e-12


def test_arguments_that_do_not_fit_are_named():
    sym = er.Symmetry("SO(2)", input={"a": "vectors", "c": "vectors"}, output="invariant")
    with pytest.raises(ModelError, match="Dot takes the arguments a, b, scale, but x has the entries a, c"):
        er.audit(Dot(), sym, {"a": vectors(), "c": vectors()})
    triple = er.Symmetry("SO(2)", input=(*PAIR, "vectors", "vectors"), output="invariant")
    with pytest.raises(ModelError, match="but x has 4 entries"):
        er.audit(Dot(), triple, (vectors(),) * 4)


# --- numpy, one sample at a time, other libraries ---------------------------------------------------------------------
def test_one_sample_at_a_time():
    """The spectral norm of a picture is invariant under quarter turns; its first row's sum is not."""
    sym = er.Symmetry("Cyclic(4)", input="image", output="invariant")
    x = np.random.default_rng(0).random((4, 5, 5))

    def norm(picture):
        assert picture.shape == (5, 5)
        return np.linalg.norm(picture, 2)

    assert er.assert_equivariant(per_sample(norm), x, sym) < 1e-12
    report = er.audit(per_sample(lambda p: {"row": p[0].sum(), "all": p.sum()}), er.Symmetry(
        "Cyclic(4)", input="image", output={"row": "invariant", "all": "invariant"}), x)  # fmt: skip
    assert report.worst_error > 0.01
    two = er.Symmetry("SO(2)", input=PAIR, output="invariant")
    assert er.assert_equivariant(per_sample(lambda a, b: a @ b), (vectors(), vectors()), two) < 1e-12
    with pytest.raises(ModelError, match="per_sample"):
        er.audit(np.max, sym, x)
    with pytest.raises(ModelError, match="int cannot be called"):
        per_sample(3)


def test_answers_of_a_simulator_are_no_views_of_its_state():
    state = np.zeros(3)

    def step(x):
        state[:] = x
        return state

    sym = er.Symmetry("SO(3)", input="vectors", output="vectors")
    x = torch.randn(7, 3, dtype=torch.float64)
    assert er.assert_equivariant(per_sample(step), x, sym) < 1e-12
    assert np.array_equal(per_sample(step)(x.numpy()), x.numpy())
    kept = torch.zeros(3, dtype=torch.float64)
    assert torch.equal(per_sample(lambda row: {"state": kept.copy_(row)})(x)["state"], x)


def test_functions_of_numpy_that_only_warn_of_tensors_get_arrays():
    """np.arctan2 takes tensors and announces that it soon will not; under this suite that is an error, for users noise."""
    kinds = []

    def angle(x):
        kinds.append(type(x))
        return np.arctan2(x[:, 1], x[:, 0])

    def mixed(x):
        return torch.atan2(x[:, 1], x[:, 0]) + 0 * torch.as_tensor(np.arctan2(x[:, 1].clone(), x[:, 0].clone()))

    x = torch.randn(5, 2, dtype=torch.float64)
    for fn in (angle, mixed):
        with warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("always")
            model = Model(fn)
            assert torch.allclose(model(x), torch.atan2(x[:, 1], x[:, 0]), rtol=0, atol=1e-15)
            model(x)
        assert (not heard) == (fn is angle)
    assert kinds[1:] == [np.ndarray, np.ndarray]


def test_functions_that_refuse_tensors_in_their_own_way_get_arrays():
    def session(x):
        if not isinstance(x, np.ndarray):
            raise RuntimeError("input is no ndarray")  # noqa: TRY004 - as onnxruntime does
        return Foreign(np.linalg.norm(x, axis=1))

    assert er.assert_equivariant(session, vectors(), TURNS) < 1e-12

    def choosy(x):
        if isinstance(x, torch.Tensor):
            raise ModelError("give me what I know")
        return np.linalg.norm(x, axis=1)

    with pytest.raises(ModelError, match="give me what I know"):  # an error of this library is meant as it is
        Model(choosy)(torch.from_numpy(vectors()))

    def broken(x):
        raise RuntimeError("the server is down")

    with pytest.raises(RuntimeError, match="the server is down"):
        er.audit(broken, TURNS, vectors())


def test_answers_as_lists_and_foreign_arrays():
    assert torch.equal(Model(lambda x: [1.0, 2.0])(torch.zeros(2, 2)), torch.tensor([1.0, 2.0]))
    assert Model(lambda x: np.ones(2, ">f8"))(torch.zeros(2, 2)).dtype == torch.float64
    assert Model(lambda x: np.ones(2, np.longdouble))(torch.zeros(2, 2)).dtype == torch.float64
    with pytest.raises(ModelError, match="<lambda> returned array of <U1"):
        Model(lambda x: np.array(["a", "b"]))(torch.zeros(2, 2))


# --- estimators -------------------------------------------------------------------------------------------------------
class Threshold:
    """A fitted classifier as scikit-learn's: right of a line or left of it, by names."""

    classes_ = np.array(["left", "right"])
    n_features_in_ = 2

    def predict(self, X):
        assert isinstance(X, np.ndarray)
        assert X.shape[1] == 2
        return self.classes_[(X[:, 0] > 0).astype(int)]


class Scores(Threshold):
    def predict_proba(self, X):
        right = 1 / (1 + np.exp(-X[:, 0]))
        return np.stack((1 - right, right), 1)


@pytest.mark.parametrize("estimator", [Threshold(), Scores()])
def test_classifiers_and_labels_by_name(estimator):
    """Turned by a half turn every label of a nonzero vector is wrong, by 0 none is."""
    x = vectors()
    y = ["right" if value > 0 else "left" for value in x[:, 0]]
    report = er.audit(estimator, er.Symmetry("Cyclic(2)", input="vectors", output="invariant"), x, y)
    assert report.metric.name == "accuracy"
    assert report.scores.mean(1).tolist() == [1.0, 0.0]
    with pytest.raises(DataError, match="y holds 'up', but the model knows the classes 'left', 'right'"):
        er.audit(estimator, TURNS, x, ["up"] * 6)


def test_labels_that_are_not_numbered_from_zero():
    model = Scores()
    model.classes_ = np.array([3, 7])
    x = vectors()
    report = er.audit(
        model, er.Symmetry("Cyclic(1)", input="vectors", output="invariant"), x, np.where(x[:, 0] > 0, 7, 3)
    )
    assert report.upright == 1.0


def test_estimators_get_flat_features():
    class Sum:
        n_features_in_ = 25

        def predict(self, X):
            return X @ np.arange(25.0)

    x = np.random.default_rng(0).random((3, 1, 5, 5))
    sym = er.Symmetry("Cyclic(4)", input="image", output="invariant")
    expected = er.audit(lambda x: x.flatten(1) @ torch.arange(25.0).double(), sym, x)
    torch.testing.assert_close(er.audit(Sum(), sym, x).errors, expected.errors, rtol=1e-12, atol=1e-12)


def test_scikit_learn():
    pytest.importorskip("sklearn")
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LinearRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    x = np.random.default_rng(0).normal(size=(60, 2))
    inside = np.where((x**2).sum(1) < 1, "in", "out")
    for model in (RandomForestClassifier(random_state=0), SVC(), make_pipeline(StandardScaler(), SVC(C=100.0))):
        report = er.audit(model.fit(x, inside), TURNS, x, inside, elements=8)
        assert report.upright == pytest.approx(model.score(x, inside))
    line = LinearRegression().fit(x, x @ [1.0, 2.0])
    expected = er.audit(lambda v: v @ torch.tensor([1.0, 2.0]).double(), TURNS, x, elements=8)
    torch.testing.assert_close(er.audit(line, TURNS, x, elements=8).errors, expected.errors, rtol=1e-9, atol=1e-9)
