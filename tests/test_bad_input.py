"""Bad input at the public surface: each case has its own error type and a message with the argument and the remedy.

The table is the contract. Every case also runs against a copy of the user's data and model, which must come out unchanged.
"""

import ast
import copy
import inspect
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import erlangen as er
from erlangen import errors
from erlangen.data import load_data
from erlangen.errors import (
    ActionError,
    BatchDependenceError,
    CheckpointError,
    DataError,
    DegenerateFrameError,
    DtypeError,
    ErlangenError,
    GroupElementError,
    GroupError,
    MatrixFunctionError,
    MissingExtraError,
    ModelError,
    NondeterministicModelError,
    NotEquivariantError,
    NotFiniteError,
    OrbitError,
    ShapeError,
    SymmetryError,
    UnknownNameError,
)

TESTS = Path(__file__).parent


class User:
    """What a user brings: two declarations, clouds and images with labels, a network in train mode. Copied for each case."""

    def __init__(self):
        generator = torch.Generator().manual_seed(0)
        self.sym = er.Symmetry("SO(3)", input="points", output="invariant")
        self.turns = er.Symmetry("Dihedral(4)", input="image", output="invariant")
        self.x = torch.randn(4, 5, 3, generator=generator)
        self.images = torch.rand(4, 1, 6, 6, generator=generator)
        self.y = torch.tensor([0, 1, 1, 0])
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(15, 2)).train()

    def with_value(self, value, index=(2, 1, 0)):
        x = self.x.clone()
        x[index] = value
        return x

    def audit(self, model=None, x=None, y=None, sym=None, **options):
        model, x = self.net if model is None else model, self.x if x is None else x
        return er.audit(model, sym or self.sym, x, y, progress=False, **({"elements": 6} | options))

    def error(self, model=None, **options):
        return er.equivariance_error(self.net if model is None else model, self.sym, self.x, **options)

    def exact(self, group, x, output="invariant", **options):
        sym = er.Symmetry(group, input="points", output=output)
        return er.symmetrize(lambda x: x.flatten(1), sym, on_degenerate="error", **options)(x)

    def fit(self, model=None, y=None, **options):
        options = {"loss": nn.functional.cross_entropy, "epochs": 1, "progress": False} | options
        return er.fit(self.net if model is None else model, self.x, self.y if y is None else y, **options)


def one_cube():
    corners = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * 3)
    return corners[None]


def nan_when_turned(user):
    """Right on the samples as they are, NaN for the second one as soon as it is turned."""
    own = user.x[1].clone()

    def model(x):
        first = x[:, 0, 0]
        lost = ((x.norm(dim=(1, 2)) - own.norm()).abs() < 1e-4) & ((x - own).abs().amax((1, 2)) > 1e-3)
        return torch.where(lost, torch.nan, first)[:, None]

    return model


def in_place(x):
    x -= x.mean(1, keepdim=True)
    return x.norm(dim=-1)


def unlike_itself(x):
    """Dropout left on inside a function, where no eval mode reaches it."""
    return nn.functional.dropout(x.norm(dim=-1), 0.5, training=True)


def wrong_action(g, x):
    return x[..., 0]


CASES = {
    # --- er.Symmetry, groups, actions ---------------------------------------------------------------------------------
    "symmetry: output forgotten": (
        lambda u: er.Symmetry("SO(3)", input="points"),
        SymmetryError, "output is missing: declare output='invariant'"),
    "symmetry: input forgotten": (
        lambda u: er.Symmetry("SO(3)", output="invariant"), SymmetryError, "input is missing: declare input="),
    "symmetry: group misspelt": (
        lambda u: er.Symmetry("SOO(3)", input="points", output="invariant"),
        UnknownNameError, r"unknown group 'SOO\(3\)'; did you mean SO\(n\)"),
    "symmetry: group is a class": (
        lambda u: er.Symmetry(er.SO, input="points", output="invariant"),
        GroupError, r"group is the class SO; give a group such as er.SO\(3\)"),
    "symmetry: group is None": (
        lambda u: er.Symmetry(None, input="points", output="invariant"), GroupError, "group is a NoneType; give a group"),
    "symmetry: action misspelt": (
        lambda u: er.Symmetry("SO(3)", input="pionts", output="invariant"),
        UnknownNameError, "input = 'pionts' is no known action; did you mean 'points'"),
    "symmetry: action is a number": (
        lambda u: er.Symmetry("SO(3)", input="points", output=3),
        ActionError, "output: output is a int; give an action, a string"),
    "symmetry: action is a class": (
        lambda u: er.Symmetry("SO(3)", input=er.actions.Points, output="invariant"),
        ActionError, r"input is the class Points; give an instance, Points\(\)"),
    "symmetry: unknown option of an action": (
        lambda u: er.Symmetry("SO(2)", input="image(mode=bicubic)", output="invariant"),
        ActionError, r"unexpected keyword argument 'mode'; see help\(er.actions.Image\)"),
    "symmetry: images under rotations of space": (
        lambda u: er.Symmetry("SO(3)", input="image", output="invariant"),
        ActionError, r"input: image: SO\(3\) acts on R\^3, an image needs a group of the plane such as SO\(2\)"),
    "symmetry: nodes under rotations": (
        lambda u: er.Symmetry("SO(3)", input="permuted", output="invariant"),
        ActionError, r"SO\(3\) does not permute nodes; use Symmetric\(n\)"),
    "symmetry: points under cyclic shifts": (
        lambda u: er.Symmetry("Shifts(6,6)", input="points", output="invariant"),
        ActionError, "use the action 'image' or 'rolled'"),
    "symmetry: wrong entry of a tree": (
        lambda u: er.Symmetry("SO(3)", input={"pos": "points", "grid": "image"}, output="invariant"),
        ActionError, "input: entry 'grid': image"),
    "symmetry: two open widths": (
        lambda u: er.Symmetry("SO(3)", input="invariant + invariant", output="invariant"),
        ActionError, r"only one summand may have an open width; write invariant\(size\)"),
    "symmetry: width that is no number": (
        lambda u: er.Symmetry("SO(3)", input="vectors + invariant(-1)", output="invariant"),
        ActionError, r"invariant\(-1\): the size of the last axis must be a positive integer"),
    "group: not enough arguments": (
        lambda u: er.group("SO()"), GroupError, r"has 0 argument\(s\), but SO\(n\) takes 1"),
    "group: listing an infinite one": (
        lambda u: er.SO(3).elements(), OrbitError, r"infinite and cannot be listed; use .sample\(n\) or .grid\(n\)"),
    "group: listing a huge one": (
        lambda u: er.Symmetric(12).elements(), OrbitError, r"479,001,600 elements.*use .sample\(n\)"),
    "group: logarithm that does not exist": (
        lambda u: er.GLPlus(2).log(torch.diag(torch.tensor([-1.0, -2.0]))), MatrixFunctionError, "logarithm"),
    "group: element of another shape": (
        lambda u: u.sym.input.act(torch.eye(2), u.x), ShapeError, r"g has shape \(2, 2\).*shape \[..., 3, 3\]"),
    # --- data ---------------------------------------------------------------------------------------------------------
    "audit: wrong number of coordinates": (
        lambda u: u.audit(x=u.x[..., :2]),
        ShapeError, r"x has shape \(4, 5, 2\).*SO\(3\) acts on 3 coordinates; transpose x or pass axis="),
    "audit: an axis too few": (
        lambda u: u.audit(x=u.x[0, 0]), ShapeError, r"x has shape \(3,\).*needs at least 1 data axes"),
    "audit: no batch axis": (
        lambda u: u.audit(x=torch.tensor(1.0)), DataError, r"x is tensor\[\]; give a tensor \[B, ...\]"),
    "audit: NaN": (
        lambda u: u.audit(x=u.with_value(torch.nan)),
        NotFiniteError, r"x has 1 values that are not finite, the first at index \(2, 1, 0\) \(nan\); remove or impute"),
    "audit: Inf": (
        lambda u: u.audit(x=u.with_value(-torch.inf)), NotFiniteError, r"index \(2, 1, 0\) \(-inf\)"),
    "audit: empty batch": (
        lambda u: u.audit(x=u.x[:0]), DataError, r"x is empty \(tensor\[0, 5, 3\]\); give at least one sample"),
    "audit: integers": (
        lambda u: u.audit(x=u.x.long()), DtypeError, r"x has dtype torch.int64.*call x.float\(\)"),
    "audit: complex numbers": (
        lambda u: u.audit(x=u.x + 0j), DtypeError, "x has dtype torch.complex64, but a floating dtype is needed"),
    "audit: words": (
        lambda u: u.audit(x=["a", "b"]), DataError, "give a tensor.*or a dict or tuple"),
    "audit: lists of uneven length": (
        lambda u: u.audit(x=[[1.0], [1.0, 2.0]]), DataError, "x is a list whose entries have different lengths"),
    "audit: an array of words": (
        lambda u: u.audit(x=np.array(["a", "b"])), DataError, "x is an array of <U1"),
    "audit: a dict where a tensor is declared": (
        lambda u: u.audit(x={"pos": u.x}),
        ActionError, r"x is {'pos': tensor\[4, 5, 3\]}, but the action 'points' moves one tensor; declare a dict"),
    "audit: keys that differ": (
        lambda u: u.audit(sym=er.Symmetry("SO(3)", input={"pos": "points"}, output="invariant"), x={"position": u.x}),
        SymmetryError, r"x is {'position': tensor\[4, 5, 3\]}, but the action is {pos: points}; give both the same keys"),
    "audit: leaves of different length": (
        lambda u: u.audit(sym=er.Symmetry("SO(3)", input=("points", "points"), output="invariant"), x=(u.x, u.x[:2])),
        DataError, "x has leaves of different length.*the first axis is the batch"),
    "audit: image of another size than the shifts": (
        lambda u: u.audit(sym=er.Symmetry("Shifts(8,8)", input="image", output="invariant"), x=u.images),
        ShapeError, r"axis -2 has length 6, Shifts\(8,8\) shifts 8"),
    "audit: nodes that the group does not have": (
        lambda u: u.audit(sym=er.Symmetry("Symmetric(7)", input="permuted", output="invariant")),
        ShapeError, r"axis -2 has 5 nodes, Symmetric\(7\) permutes 7"),
    "error: NaN": (
        lambda u: er.equivariance_error(u.net, u.sym, u.with_value(torch.nan)), NotFiniteError, "remove or impute"),
    "error: empty batch": (
        lambda u: er.assert_equivariant(u.net, u.x[:0], u.sym), DataError, "give at least one sample"),
    "derivative: integers": (
        lambda u: er.lie_derivative(u.net, u.sym, u.x.long()), DtypeError, r"call x.float\(\)"),
    "worst case: NaN": (
        lambda u: er.worst_case(u.net, u.sym, u.with_value(torch.nan)), NotFiniteError, "remove or impute"),
    # --- labels and metrics -------------------------------------------------------------------------------------------
    "labels: too few": (
        lambda u: u.audit(y=u.y[:3]), DataError, r"y has tensor\[3\] but x has 4 samples; give one label per sample"),
    "labels: words": (
        lambda u: u.audit(y=["a", "b", "b", "a"]), DataError, r"y is \[str, str, str, str\]; give a tensor"),
    "labels: NaN": (
        lambda u: u.audit(y=torch.full((4, 2), torch.nan)), NotFiniteError, r"y has 8 values that are not finite"),
    "labels: floats for accuracy": (
        lambda u: u.audit(y=u.y.float(), metric="accuracy"),
        DtypeError, r"metric 'accuracy' needs integer labels, but y has dtype torch.float32; call y.long\(\)"),
    "labels: floats for cross entropy": (
        lambda u: u.audit(y=u.y.float(), metric="cross_entropy"), DtypeError, r"needs integer labels.*call y.long\(\)"),
    "labels: a class that the model does not know": (
        lambda u: u.audit(y=u.y + 1), DataError, "y holds the label 2, but the model knows the classes 0 to 1; number"),
    "labels: negative": (
        lambda u: u.audit(y=2 * u.y - 1, metric="cross_entropy"), DataError, "y holds the label -1.*number the labels from 0"),
    "labels: several classes": (
        lambda u: u.audit(y=torch.ones(4, 2, dtype=torch.int64)),
        ModelError, "metric 'accuracy'.*class scores belong on the last axis"),
    "labels: classes for a regression metric": (
        lambda u: u.audit(y=u.y, metric="mse"), ModelError, r"metric 'mse': prediction \(4, 2\) and target \(4, 1\) differ"),
    "labels: do not move with the output": (
        lambda u: u.audit(lambda x: x.mean(1), sym=er.Symmetry("SO(3)", input="points", output="vectors"), y=torch.rand(4, 2)),
        ShapeError, r"y, as x of the output action: x has shape \(4, 2\).*acts on 3 coordinates"),
    "labels: a tree without a metric": (
        lambda u: u.audit(y={"a": u.y}), UnknownNameError, r"metric is missing.*pass metric=function\(prediction, target\)"),
    "labels: a tree for a named metric": (
        lambda u: u.audit(y={"a": u.y}, metric="accuracy"), ModelError, "the target is {'a'.*pass metric=function"),
    "metric: misspelt": (
        lambda u: u.audit(y=u.y, metric="acuracy"), UnknownNameError, "metric = 'acuracy' is not known; did you mean 'accuracy'"),
    "metric: a number": (
        lambda u: u.audit(y=u.y, metric=3), UnknownNameError, "metric is a int; give a name, a Metric or a function"),
    "metric: one number for the batch": (
        lambda u: u.audit(y=u.y, metric=lambda p, t: (p.argmax(-1) == t).double().mean()),
        ModelError, r"returned shape \(\) for 4 samples; return one number per sample, \[N\]"),
    "metric: a row per sample": (
        lambda u: u.audit(y=u.y, metric=lambda p, t: p), ModelError, r"returned shape \(4, 2\) for 4 samples; return one number"),
    "metric: NaN": (
        lambda u: u.audit(y=u.y, metric=lambda p, t: p[:, 0].sqrt() * torch.nan),
        NotFiniteError, "gave nan for prediction 0; check the model's answer and the labels"),
    # --- elements and other options -----------------------------------------------------------------------------------
    "elements: none": (lambda u: u.audit(elements=0), OrbitError, "elements = 0: give a positive number"),
    "elements: a fraction": (lambda u: u.audit(elements=2.5), OrbitError, "elements = 2.5: give a positive number"),
    "elements: a list": (lambda u: u.audit(elements=[0, 1]), OrbitError, "elements is a list: give a positive number"),
    "elements: an empty tensor": (
        lambda u: u.audit(elements=torch.zeros(0, 3, 3)), OrbitError, r"elements has shape \(0, 3, 3\); give a non-empty batch"),
    "elements: of another shape": (
        lambda u: u.audit(elements=torch.eye(4)[None]), OrbitError, r"give a non-empty batch \[K, 3, 3\] of SO\(3\)"),
    "elements: not in the group": (
        lambda u: u.audit(elements=torch.stack([torch.eye(3), 2 * torch.eye(3)])),
        GroupElementError, r"elements\[1\] is not an element of SO\(3\): \[\[2.0"),
    "elements: an index beyond the group": (
        lambda u: u.audit(sym=u.turns, x=u.images, elements=torch.tensor([0, 8])),
        GroupElementError, r"elements\[1\] is not an element of Dihedral\(4\): 8"),
    "elements: too many": (
        lambda u: u.audit(elements=10**12), OrbitError, "elements = 1000000000000: the orbit is too large; at most"),
    "elements: too large a table": (
        lambda u: u.audit(x=torch.zeros(1, 1, 3).expand(100_000, 1, 3), elements=1 << 20),
        OrbitError, "1048576 elements x 100000 samples give .* GiB of results; pass elements=a smaller number"),
    "audit: chunk of zero": (lambda u: u.audit(chunk=0), OrbitError, "chunk = 0: give a positive number.*or None"),
    "error: negative chunk": (lambda u: u.error(chunk=-1), OrbitError, "chunk = -1: give a positive number"),
    "error: unknown reduction": (
        lambda u: u.error(reduce="sum"), UnknownNameError, "reduce = 'sum' is not known; choose 'mean', 'max' or 'none'"),
    "audit: unknown engine": (
        lambda u: u.audit(engine="dask"), UnknownNameError, "engine = 'dask' is not known; choose 'local' or 'ray'"),
    "audit: seed that is no integer": (lambda u: u.audit(seed="today"), OrbitError, "seed = 'today': give an integer"),
    "audit: resume in a folder that is not there": (
        lambda u: u.audit(resume="/no/such/folder/audit.st"), CheckpointError, "there is no folder '/no/such/folder'; create it"),
    "derivative: of a finite group": (
        lambda u: er.lie_derivative(u.net, u.turns, u.images), OrbitError, "is discrete.*use equivariance_error"),
    "derivative: step of zero": (
        lambda u: er.lie_derivative(u.net, u.sym, u.x, step=0.0), OrbitError, "step = 0.0: give a positive length"),
    "worst case: negative rounds": (
        lambda u: er.worst_case(u.net, u.sym, u.x, rounds=-1), OrbitError, "rounds = -1.*rounds must be 0 or more"),
    "audit: symmetry by name": (
        lambda u: er.audit(u.net, "SO(3)", u.x), SymmetryError, r"symmetry is a str; pass er.Symmetry\(group"),
    "audit: symmetry forgotten": (
        lambda u: er.audit(u.net, None, u.x), SymmetryError, r"Sequential declares no symmetry: pass symmetry=er.Symmetry"),
    # --- models -------------------------------------------------------------------------------------------------------
    "model: a class": (lambda u: u.audit(nn.Linear), ModelError, r"model is the class Linear; give an instance"),
    "model: a state dict": (
        lambda u: u.audit(u.net.state_dict()), ModelError, "model is a OrderedDict; give a torch module, a callable"),
    "model: no such file": (lambda u: u.audit("nothing.onnx"), DataError, "model = 'nothing.onnx': there is no such file"),
    "model: a file of another kind": (
        lambda u: u.audit(__file__), DataError, "only .onnx files can be run; pass a torch module as an object"),
    "model: one number for the batch": (
        lambda u: u.audit(lambda x: x.sum()), ModelError, r"one number for the whole batch; return one answer per sample"),
    "model: one numpy number for the batch": (
        lambda u: u.audit(lambda x: x.numpy().sum()), ModelError, "one number for the whole batch"),
    "model: batch summed away": (
        lambda u: u.audit(lambda x: x.sum(0)),
        ModelError, r"returned tensor\[5, 3\] for a batch of 4 samples.*needs the batch as its first axis"),
    "model: strings": (
        lambda u: u.audit(lambda x: ["cat"] * len(x)), ModelError, "returned str; return tensors, numpy arrays of numbers"),
    "model: array of strings": (
        lambda u: u.audit(lambda x: np.array(["cat"] * len(x))), ModelError, "returned array of <U3; return tensors"),
    "model: nothing": (lambda u: u.audit(lambda x: None), ModelError, "returned NoneType; return tensors"),
    "model: an empty dict": (lambda u: u.audit(lambda x: {}), ModelError, "returned {}, no numbers at all; return one answer"),
    "model: complex numbers": (
        lambda u: u.audit(lambda x: x.mean(1) + 0j), ModelError, r"returned torch.complex64; return torch.view_as_real\(y\)"),
    "model: takes neither tensors nor arrays": (
        lambda u: u.audit(lambda x: x.no_such_method()), ModelError, "takes neither tensors .* nor numpy arrays"),
    "model: normalises by the batch": (
        lambda u: u.audit(lambda x: x.norm(dim=-1) - x.norm(dim=-1).mean(0)),
        BatchDependenceError, "answers sample 0 differently alone and in a batch.*replace statistics over the batch"),
    "model: dropout left on": (
        lambda u: u.audit(unlike_itself),
        NondeterministicModelError, "unlike_itself gave two answers to one input.*switch dropout and sampling off"),
    "error: dropout left on": (
        lambda u: u.error(unlike_itself), NondeterministicModelError, "switch dropout and sampling off"),
    "derivative: dropout left on": (
        lambda u: er.lie_derivative(unlike_itself, u.sym, u.x), NondeterministicModelError, "switch dropout"),
    "model: NaN": (
        lambda u: u.audit(lambda x: x.norm(dim=-1) * torch.nan),
        NotFiniteError, r"returned nan at index \(0, 0\) of its answer to x; check the model on sample 0"),
    "model: NaN only for moved input": (
        lambda u: u.audit(nan_when_turned(u)),
        NotFiniteError, "returned NaN or Inf for sample 1 under element [0-5] of the orbit; check the model on that input"),
    "derivative: NaN only for moved input": (
        lambda u: er.lie_derivative(nan_when_turned(u), u.sym, u.x), NotFiniteError, "near the identity.*slightly moved inputs"),
    "derivative: of labels": (
        lambda u: er.lie_derivative(lambda x: x.sum((1, 2)).long(), u.sym, u.x),
        ModelError, "answers with integers, which have no derivative; use equivariance_error"),
    "model: changes its input": (
        lambda u: u.audit(in_place), ModelError, r"in_place changes its input in place; let it work on x.clone\(\)"),
    "model: answer does not fit the output action": (
        lambda u: u.audit(sym=er.Symmetry("SO(3)", input="points", output="vectors")),
        ShapeError, r"the model's answer, as x of the output action: x has shape \(4, 2\).*acts on 3 coordinates"),
    "model: answer is another tree": (
        lambda u: u.audit(
            lambda x: {"e": x.norm(dim=-1)}, sym=er.Symmetry("SO(3)", input="points", output={"energy": "invariant"})
        ),
        SymmetryError, "the model's answer.*x is {'e'.*give both the same keys"),
    "model: layers of a function": (
        lambda u: u.audit(lambda x: x.norm(dim=-1), layers=True), ModelError, "no torch module.*pass layers=False"),
    "action: changes the shape": (
        lambda u: u.audit(sym=er.Symmetry("SO(3)", input=wrong_action, output="invariant")),
        ActionError, "the action 'wrong_action' turned .* must keep structure and shape"),
    "action: returns nothing": (
        lambda u: u.audit(sym=er.Symmetry("SO(3)", input=lambda g, x: None, output="invariant")),
        ActionError, "into NoneType .* must keep structure and shape"),
    "assertion: not equivariant": (
        lambda u: er.assert_equivariant(u.net, u.x, u.sym),
        NotEquivariantError, "er.audit shows where, er.symmetrize makes it exact"),
    # --- er.symmetrize ------------------------------------------------------------------------------------------------
    "symmetrize: single point": (
        lambda u: u.exact("SE(3)", torch.ones(1, 1, 3)),
        DegenerateFrameError, "sample 0 of x has no frame.*on_degenerate='allow'"),
    "symmetrize: all points equal": (
        lambda u: u.exact("E(3)", torch.cat([u.x[:1], torch.full((1, 5, 3), 2.0)])),
        DegenerateFrameError, "sample 1 of x has no frame"),
    "symmetrize: all zero": (
        lambda u: u.exact("O(3)", torch.zeros(2, 5, 3)), DegenerateFrameError, "sample 0 of x has no frame"),
    "symmetrize: equal eigenvalues": (
        lambda u: u.exact("SE(3)", one_cube()),
        DegenerateFrameError, "sample 0 of x .* does not determine its frame.*break the tie"),
    "symmetrize: collinear points, output of order two": (
        lambda u: er.symmetrize(
            lambda x: x.mT @ x, er.Symmetry("SO(3)", input="points", output="spd"), on_degenerate="error"
        )(torch.arange(4.0)[None, :, None] * torch.tensor([1.0, 2.0, 3.0])),
        DegenerateFrameError, "does not determine its frame"),
    "symmetrize: NaN": (
        lambda u: u.exact("SO(3)", u.with_value(torch.nan)),
        NotFiniteError, r"sample 2 of the batch is not finite \(nan at index \(2, 1, 0\)\)"),
    "symmetrize: wrong number of coordinates": (
        lambda u: u.exact("SO(3)", u.x[..., :2]), ShapeError, r"x .*SO\(3\) acts on 3 coordinates"),
    "symmetrize: integers": (lambda u: u.exact("SO(3)", u.x.long()), DtypeError, r"call x.float\(\)"),
    "symmetrize: no points at all": (
        lambda u: u.exact("SO(3)", u.x[:, :0]), ShapeError, "a frame needs at least one"),
    "symmetrize: frames where there are none": (
        lambda u: er.symmetrize(u.net, er.Symmetry("SL(3)", input="points", output="invariant"), how="frames"),
        GroupError, "no PCA frame.*use how='orbit' or pass your own frame="),
    "symmetrize: frames of images": (
        lambda u: er.symmetrize(u.net, er.Symmetry("SO(2)", input="image", output="invariant"), how="frames"),
        ActionError, "no geometric parts.*use how='orbit'"),
    "symmetrize: orbit of a group that is not compact": (
        lambda u: er.symmetrize(u.net, er.Symmetry("SE(3)", input="points", output="invariant"), how="orbit", samples=8),
        GroupError, "not compact: no average over it is invariant; use how='frames'"),
    "symmetrize: infinite orbit without samples": (
        lambda u: er.symmetrize(u.net, u.sym, how="orbit"), OrbitError, "pass samples=k"),
    "symmetrize: huge orbit": (
        lambda u: er.symmetrize(u.net, er.Symmetry("Symmetric(12)", input="permuted", output="invariant"), how="orbit"),
        OrbitError, "479,001,600 elements"),
    "symmetrize: unknown method": (
        lambda u: er.symmetrize(u.net, u.sym, how="frame"), UnknownNameError, "how = 'frame': choose 'frames'"),
    "symmetrize: unknown reaction": (
        lambda u: er.symmetrize(u.net, u.sym, on_degenerate="raise"), UnknownNameError, "on_degenerate = 'raise': choose"),
    "symmetrize: no samples": (
        lambda u: er.symmetrize(u.net, u.sym, samples=0), OrbitError, "samples = 0: give a positive integer"),
    "symmetrize: chunk of zero": (
        lambda u: er.symmetrize(u.net, u.sym, chunk=0), OrbitError, "chunk = 0: give a positive integer"),
    "symmetrize: a class": (
        lambda u: er.symmetrize(nn.Linear, u.sym), ModelError, "model is the class Linear; give an instance"),
    "symmetrize: symmetry by name": (
        lambda u: er.symmetrize(u.net, "SO(3)"), SymmetryError, r"symmetry is a str; give er.Symmetry"),
    "symmetrize: batch summed away": (
        lambda u: er.symmetrize(lambda x: x.sum((0, 1)), u.sym)(u.x), ModelError, "must keep the leading batch axis"),
    "symmetrize: labels instead of scores": (
        lambda u: er.symmetrize(lambda x: x.sum((1, 2)).long(), u.sym)(u.x), ModelError, "cannot be averaged; return scores"),
    # --- er.augment, er.relax, er.discover ------------------------------------------------------------------------------
    "augment: symmetry by name": (lambda u: er.augment("SO(3)"), SymmetryError, "symmetry is a str; pass er.Symmetry"),
    "augment: probability above one": (
        lambda u: er.augment(u.sym, probability=2.0), ErlangenError, "probability = 2.0: give a number from 0 to 1"),
    "augment: elements not in the group": (
        lambda u: er.augment(u.sym, elements=torch.ones(2, 3, 3)),
        GroupElementError, r"elements\[0\] is not an element of SO\(3\)"),
    "augment: no elements": (
        lambda u: er.augment(u.sym, elements=torch.zeros(0, 3, 3)), OrbitError, "give a non-empty batch"),
    "augment: an array of words": (
        lambda u: er.augment(u.sym)(np.array(["a", "b"])), DataError, "x is an array of <U1, such as .*'a'"),
    "augment: integers": (lambda u: er.augment(u.sym)(u.x.long()), DtypeError, r"call x.float\(\)"),
    "relax: no symmetries": (lambda u: er.relax(u.net, []), SymmetryError, "must be a non-empty list of er.Symmetry"),
    "relax: keys that differ": (
        lambda u: er.relax(u.net, [u.sym])({"pos": u.x}), ActionError, "moves one tensor; declare a dict"),
    "discover: no candidates": (
        lambda u: er.discover(u.net, [], u.x), SymmetryError, "candidates must be a non-empty list of er.Symmetry"),
    # --- er.fit -------------------------------------------------------------------------------------------------------
    "fit: a function": (lambda u: u.fit(lambda x: x), ModelError, "model is a function; only a torch module can be trained"),
    "fit: nothing to train": (lambda u: u.fit(nn.Flatten()), ModelError, "Flatten has no trainable parameters"),
    "fit: too few labels": (lambda u: u.fit(y=u.y[:3]), DataError, r"x and y have the lengths \[3, 4\]; give equally many"),
    "fit: an array of words": (
        lambda u: u.fit(y=np.array(["a"] * len(u.y))), DataError, "y is an array of <U1, such as .*'a'"),
    "fit: no epochs": (lambda u: u.fit(epochs=0), ErlangenError, "epochs = 0: give a positive integer"),
    "fit: rate of zero": (lambda u: u.fit(lr=0.0), ErlangenError, "lr = 0.0: give a positive number"),
    "fit: patience without validation": (
        lambda u: u.fit(patience=3), ErlangenError, r"patience needs validation=\(x, y\)"),
    "fit: a loss per sample": (
        lambda u: u.fit(loss=lambda p, t: nn.functional.cross_entropy(p, t, reduction="none")),
        ModelError, r"loss returned shape \(4,\); return one number for the batch"),
    "fit: NaN": (
        lambda u: u.fit(loss=lambda p, t: p.sum() * torch.nan), NotFiniteError, "the loss is nan at epoch 0, step 0; lower lr"),
    "fit: checkpoint in a folder that is not there": (
        lambda u: u.fit(checkpoint="/no/such/folder/fit.pt"), CheckpointError, "there is no folder '/no/such/folder'; create it"),
    # --- files --------------------------------------------------------------------------------------------------------
    "file: missing": (lambda u: load_data("nothing.npz"), DataError, "data = 'nothing.npz': there is no such file"),
    "file: of another kind": (lambda u: load_data(__file__), DataError, "unknown kind '.py'; known: .npz"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_bad_input(name):
    call, error, message = CASES[name]
    user = User()
    before = copy.deepcopy(vars(user))
    with pytest.raises(ErlangenError, match=f"(?s){message}") as caught:
        call(user)
    assert type(caught.value) is error
    assert user.net.training
    assert all(torch.equal(getattr(user, key), before[key]) for key in ("x", "images", "y"))
    parameters = zip(user.net.parameters(), before["net"].parameters(), strict=True)
    assert all(torch.equal(now, then) and now.grad is None for now, then in parameters)


def test_the_table_is_long_enough():
    assert len(CASES) >= 60
    used = {error for _, error, _ in CASES.values()}
    assert len(used) >= 15


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


def test_every_error_class_is_raised_by_some_test():
    """A class that no test provokes is either dead or unproven."""
    tested = set()
    for path in TESTS.rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            # A class counts where it stands as a value: in pytest.raises(...), pytest.warns(...) or a table of cases.
            if isinstance(node, ast.Name):
                tested.add(node.id)
            elif isinstance(node, ast.Attribute):
                tested.add(node.attr)
    declared = {
        name
        for name, value in vars(errors).items()
        if inspect.isclass(value) and issubclass(value, (Exception, Warning))
    }
    assert declared >= {"ErlangenError", "DegenerateFrameWarning"}
    assert declared - {"ErlangenWarning"} <= tested
