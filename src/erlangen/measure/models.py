"""Anything callable as a function from trees of tensors to trees of tensors: torch, numpy, ONNX."""

from __future__ import annotations

import contextlib
import functools
import warnings
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from erlangen.actions import Tree, tree_leaves, tree_map, tree_structure
from erlangen.errors import ModelError, TrainModeWarning
from erlangen.measure.calls import Estimator, invoke, is_estimator
from erlangen.measure.inputs import as_tree, encode_labels
from erlangen.measure.onnx_files import OnnxModel
from erlangen.measure.padding import Padding

ModelLike = nn.Module | Callable[..., Any] | str | Path | Any
"""A torch module, a function of tensors or of numpy arrays, a fitted estimator, or the path of an ONNX file."""


class Model:
    """A model under measurement: ``model(x)`` with gradients off; x and the answer are trees of tensors.

    A model that differentiates inside, as a potential does for its forces, gets gradients; its answers are detached.
    Models of several arguments get a tuple by position and a dict by name, as their signature says. Answers may be
    arrays of other libraries, lists of numbers, or objects with ``.logits`` (Hugging Face), of which the logits are
    taken. Estimators in the manner of scikit-learn answer with ``predict_proba`` where they have it, else ``predict``.

    Args:
        target: a torch module, a callable on tensors or numpy arrays (`per_sample` makes one of a function of one sample),
            a fitted estimator, or the path of an ``.onnx`` file (`erlangen.measure.onnx` has options).

    Raises:
        ModelError: the target cannot be called, or answers with something that is no tensor.
    """

    def __init__(self, target: ModelLike) -> None:
        self.target = target
        self.module = target if isinstance(target, nn.Module) else None
        if isinstance(target, type):
            raise ModelError(f"model is the class {target.__name__}; give an instance, {target.__name__}(...)")
        if isinstance(target, (str, Path)):
            self._call: Callable[[Tree], Any] = OnnxModel(target)
            self.name = Path(target).name
        elif is_estimator(target):
            self._call = Estimator(target)
            self.name = type(target).__name__
        elif callable(target):
            self._call = target
            self.name = type(target).__name__ if self.module is not None else getattr(target, "__name__", "model")
        else:
            raise ModelError(
                f"model is a {type(target).__name__}; give a torch module, a callable, a fitted estimator with predict, or "
                f"the path of an ONNX file{session_hint(target)}"
            )
        self._numpy = isinstance(self._call, Estimator)
        self._answered = False
        self._needs_grad = False
        self.padding: Padding | None = None

    @functools.cached_property
    def _parameters(self) -> list[nn.Parameter]:
        return [] if self.module is None else list(self.module.parameters())

    @functools.cached_property
    def device(self) -> torch.device | None:
        """Where the module's parameters lie; ``None`` for other callables."""
        return self._parameters[0].device if self._parameters else None

    @functools.cached_property
    def dtype(self) -> torch.dtype | None:
        """The floating dtype that it was made for, where it shows: of a module's parameters, of an ONNX file's inputs."""
        if isinstance(self._call, OnnxModel):
            return self._call.dtype
        found = {p.dtype for p in self._parameters if p.is_floating_point()}
        return found.pop() if len(found) == 1 else None

    def read(self, x: Any, y: Any = None) -> tuple[Tree, Tree | None]:
        """Data and labels as trees of tensors; arrays and lists in the dtype of the model, labels as its class indices."""
        classes = self._call.classes if isinstance(self._call, Estimator) else None
        if y is not None and classes is not None:
            y = encode_labels(y, classes)
        return as_tree(x, "x", dtype=self.dtype), None if y is None else as_tree(y, "y", dtype=self.dtype)

    def __call__(self, x: Tree) -> Tree:
        """Answer of the model, detached; leaves have the leading axis of x."""
        if self.device is not None:
            x = tree_map(lambda leaf: leaf.to(self.device), x)
        return self._checked(self.answer(x) if self.padding is None else self.padding.answer(self, x), x)

    @property
    def call(self) -> Callable[..., Any]:
        """What is called."""
        return self._call

    def answer(self, x: Tree, *, masked: bool = False) -> Tree:
        """The answer as a tree of detached tensors; `masked` data are split into data and mask as `padding` says."""
        try:
            with torch.set_grad_enabled(self._needs_grad):
                y = self._answer(x, masked)
        except Exception as error:
            if not self._needs_grad and "does not require grad" in str(error):
                self._needs_grad = True
                return self.answer(x, masked=masked)
            error.add_note(f"raised by the model {self.name}, called with x {tree_structure(x)}")
            raise
        if isinstance(y, (float, int, np.generic)) or (isinstance(y, (Tensor, np.ndarray)) and y.ndim == 0):
            raise ModelError(
                f"{self.name} returned one number for the whole batch; return one answer per sample, [B, ...]; "
                "er.measure.per_sample(model) calls a function of one sample on each"
            )
        return tree_map(lambda leaf: self._tensor(leaf), as_tree(y, strict=False))

    def _answer(self, x: Tree, masked: bool) -> Any:
        if self._numpy:
            return self._invoke(tree_map(_to_numpy, x), masked)
        try:
            with contextlib.nullcontext() if self._answered or self.module is not None else _no_half_arrays():
                y = self._invoke(x, masked)
        except Exception as torch_error:
            # A numpy function meets a tensor: numpy's own functions refuse it with one of these types, those of other
            # libraries with any, so their first answer decides.
            refused = isinstance(torch_error, (TypeError, AttributeError, DeprecationWarning))
            if self.module is not None or isinstance(self._call, OnnxModel) or isinstance(torch_error, ModelError):
                raise
            if (self._answered and not refused) or "does not require grad" in str(torch_error):
                raise
            try:
                y = self._invoke(tree_map(_to_numpy, x), masked)
            except Exception as numpy_error:  # noqa: BLE001 - one of the two is raised
                if isinstance(torch_error, DeprecationWarning):  # it wants tensors all the same, and may warn
                    self._answered = True
                    return self._invoke(x, masked)
                if not (refused and isinstance(numpy_error, (TypeError, AttributeError))):
                    raise with_session_hint(numpy_error if refused else torch_error) from None
                raise ModelError(
                    f"{self.name} takes neither tensors ({torch_error}) nor numpy arrays ({numpy_error})"
                ) from torch_error
            self._numpy = True
        self._answered = True
        return y

    def _invoke(self, x: Tree, masked: bool) -> Any:
        """The model's own answer; the logits, if it is an object that has them."""
        if masked and self.padding is not None:
            data, mask = self.padding.parts(x)
            if isinstance(self._call, OnnxModel):
                rest = [port.name for port in self._call.inputs if port.name != "mask"]
                named = data if isinstance(data, dict) else dict(zip(rest, tree_leaves(data), strict=False))
                y = self._call({**named, "mask": mask})
            else:
                y = invoke(self._call, data, mask=mask)
        else:
            y = self._call(x) if isinstance(self._call, (OnnxModel, Estimator)) else invoke(self._call, x)
        known = (Tensor, np.ndarray, list, tuple)  # a named tuple with logits is structure that an action can name
        return y if isinstance(y, known) or not hasattr(y, "logits") else y.logits

    def _checked(self, y: Tree, x: Tree) -> Tree:
        if not any(leaf.numel() for leaf in tree_leaves(y)):
            raise ModelError(
                f"{self.name} returned {tree_structure(y)}, no numbers at all; return one answer per sample"
            )
        n = tree_leaves(x)[0].shape[0]
        for leaf in tree_leaves(y):
            if leaf.ndim == 0 or leaf.shape[0] != n:
                raise ModelError(
                    f"{self.name} returned {tree_structure(y)} for a batch of {n} samples ({tree_structure(x)}); every "
                    "tensor of the answer needs the batch as its first axis"
                )
        return y

    def _tensor(self, leaf: Any) -> Tensor:
        if isinstance(leaf, Tensor):
            if leaf.is_complex():
                raise ModelError(
                    f"{self.name} returned {leaf.dtype}; return torch.view_as_real(y), real and imaginary parts"
                )
            return leaf.detach()
        kind = f"array of {leaf.dtype}" if isinstance(leaf, np.ndarray) else type(leaf).__name__
        raise ModelError(
            f"{self.name} returned {kind}; return tensors, numpy arrays of numbers, or dicts/tuples of these"
        )

    @contextlib.contextmanager
    def measuring(self, *, quiet: bool = False) -> Generator[None]:
        """Eval mode inside, the mode of every submodule restored on leaving, also after an error.

        `TrainModeWarning` tells, unless `quiet`, when that changes what the module computes.
        """
        if self.module is None:
            yield
            return
        modes = [(module, module.training) for module in self.module.modules()]
        stateful = sorted({type(m).__name__ for m, training in modes if training and _depends_on_mode(m)})
        if stateful and not quiet:
            warnings.warn(
                f"{self.name} is in train mode and holds {', '.join(stateful)}: it is measured in eval mode and restored "
                "afterwards; call model.eval() to silence this",
                TrainModeWarning,
                stacklevel=4,
            )
        if any(training for _, training in modes):
            self.module.eval()
        try:
            yield
        finally:
            for module, training in modes:
                if module.training != training:  # setting an attribute of a module takes long
                    module.training = training


def _depends_on_mode(module: nn.Module) -> bool:
    """Whether a module computes something else in train mode, as far as torch's own modules go."""
    # Torch has no public names for what its dropouts and batch norms share.
    kinds = (nn.modules.dropout._DropoutNd, nn.modules.batchnorm._BatchNorm)  # pyright: ignore[reportPrivateUsage]
    return isinstance(module, kinds)


def session_hint(target: object) -> str:
    """What to give in place of an onnxruntime session; empty for anything else."""
    if type(target).__module__.split(".")[0] != "onnxruntime":
        return ""
    return "; for a session that is er.onnx(path), with fixed=, batch_axis= and outputs= where its inputs need them"


def with_session_hint(error: Exception) -> Exception:
    """An error that onnxruntime raised, with the remedy as a note; others as they are."""
    raised, trace = "onnxruntime" in type(error).__module__, error.__traceback__
    while trace is not None:
        raised = raised or "onnxruntime" in trace.tb_frame.f_globals.get("__name__", "")
        trace = trace.tb_next
    if raised:
        error.add_note(
            "onnxruntime refused both a tensor and a numpy array; give the file instead, er.onnx(path), with fixed= for "
            "inputs that are no data, batch_axis= where the batch is not first, and outputs= to choose answers"
        )
    return error


@contextlib.contextmanager
def _no_half_arrays() -> Generator[None]:
    """numpy's functions take some tensors, and announce that they will not for long: such a model wants arrays."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="__array_wrap__ must accept", category=DeprecationWarning)
        yield


def _to_numpy(leaf: Tensor) -> np.ndarray[Any, Any]:
    return leaf.detach().cpu().numpy()
