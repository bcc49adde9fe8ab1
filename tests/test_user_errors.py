"""Damaged files, missing packages and errors of the user's own code: what is said, and that nothing else breaks."""

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import erlangen as er
from erlangen.data import load_data
from erlangen.errors import (
    DataError,
    MissingExtraError,
)

TESTS = Path(__file__).parent


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 cut off"])
@pytest.mark.parametrize("suffix", [".npz", ".npy", ".pt", ".safetensors", ".onnx"])
def test_damaged_files(tmp_path, suffix, content):
    path = tmp_path / f"damaged{suffix}"
    path.write_bytes(content)
    if suffix == ".onnx":
        pytest.importorskip("onnxruntime")
        with pytest.raises(DataError, match=r"damaged\.onnx' is not a readable ONNX file"):
            er.audit(path, User().sym, User().x)
    else:
        with pytest.raises(DataError, match=rf"damaged\{suffix}' cannot be read as \{suffix}"):
            load_data(path)
    assert path.read_bytes() == content


def test_a_missing_package_is_named_with_its_extra(tmp_path, monkeypatch):
    (tmp_path / "model.onnx").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingExtraError, match=r"needs the package 'onnxruntime'.*pip install 'erlangen\[onnx\]'"):
        User().audit(tmp_path / "model.onnx")


def test_errors_of_the_users_own_code_pass_with_a_note():
    """A bug in a model, a metric or an action keeps its type and traceback; a note says what was called with what."""
    user = User()
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied") as caught:
        user.audit(nn.Linear(7, 2))
    assert caught.value.__notes__ == ["raised by the model Linear, called with x tensor[4, 5, 3]"]
    with pytest.raises(ZeroDivisionError) as caught:
        user.audit(y=user.y, metric=lambda prediction, target: 1 / 0)
    assert caught.value.__notes__ == ["raised by the metric '<lambda>', called with tensor[4, 2] and tensor[4]"]
    with pytest.raises(RuntimeError) as caught:
        user.audit(sym=er.Symmetry("SO(3)", input=lambda g, x: x @ torch.ones(7, 7), output="invariant"))
    assert "raised by the action '<lambda>', called with g [1, 3, 3] and x tensor[4, 5, 3]" in caught.value.__notes__


def test_a_model_that_differentiates_inside_is_measured():
    """Forces are gradients of the energy: exact for a central potential, and the user's tensors take no gradient along."""

    def forces(x):
        x = x.requires_grad_() if x.is_leaf else x
        energy = torch.cdist(x, x).square().sum()
        return -torch.autograd.grad(energy, x)[0]

    user = User()
    sym = er.Symmetry("E(3)", input="points", output="vectors")
    assert er.audit(lambda x: forces(x.clone()), sym, user.x, elements=10, progress=False).worst_error < 1e-4
    assert not user.x.requires_grad


def test_small_answers_are_not_taken_for_zero():
    """In joule an energy is about 1e-19, and its square is no float32: the error must be that of the same model in eV."""
    user = User()
    in_ev = er.equivariance_error(user.net, user.sym, user.x, elements=10)
    in_joule = er.equivariance_error(lambda x: user.net(x) * 1.6e-25, user.sym, user.x, elements=10)
    assert float(in_joule) == pytest.approx(float(in_ev), rel=1e-4)
