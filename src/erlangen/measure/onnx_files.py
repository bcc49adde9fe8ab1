"""ONNX files as models: which inputs come from the data, on which axis their batch lies, which outputs are answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from erlangen.actions import Tree, tree_structure
from erlangen.arrays import tensor_of
from erlangen.errors import DataError, MissingExtraError, ModelError, UnknownNameError

Fixed = Mapping[str, Any]

NUMPY: dict[str, Any] = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(float16)": np.float16,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(int16)": np.int16,
    "tensor(int8)": np.int8,
    "tensor(uint8)": np.uint8,
    "tensor(bool)": np.bool_,
}


class Port(NamedTuple):
    """An input or output of a graph."""

    name: str
    shape: tuple[int | str | None, ...]
    """Numbers, or names of sizes that are open; empty for one number, and where the file does not say."""
    type: str

    def __str__(self) -> str:
        return f"{self.name} {list(self.shape)}"


def onnx(
    path: str | Path,
    *,
    fixed: Fixed | None = None,
    batch_axis: int | Mapping[str, int] | None = None,
    outputs: str | Sequence[str] | None = None,
) -> OnnxModel:
    """An ONNX file as a model, for `audit`, `symmetrize` and the other verbs; a plain path will do where all inputs are data.

    A voice detector that takes ``input [B, 512]``, ``state [2, B, 128]`` and the sample rate ``sr``, asked from a state of
    rest for its probabilities alone:

    ``er.onnx("vad.onnx", fixed={"sr": 16000, "state": 0}, batch_axis={"state": 1}, outputs="output")``

    Args:
        path: the file. It is run by onnxruntime on the CPU (extra ``onnx``).
        fixed: values of inputs that do not come from the data, by name: numbers and arrays, in the dtype of the input. A
            number fills the whole input; where an input has a batch axis, the value is repeated over the batch.
        batch_axis: on which axis of an input or output the batch lies, by name, or one number for all. Data and answers
            have it first everywhere else; it is moved on the way in and out. By default 0, or the axis whose open size has
            the name of the batch of the other inputs.
        outputs: which outputs are answers: a name for a tensor, several for a tuple in that order; by default all.

    Returns:
        A function of a batch of data: a tensor for a model with one input that is not fixed, a dict by names, or a tuple in
        their order. A graph with a batch of fixed size is fed in pieces of that size, the last one filled up.

    Raises:
        DataError: no readable ONNX file.
        MissingExtraError: onnxruntime is not installed.
        UnknownNameError: an input or output has another name; the message lists those that there are.
        ModelError: a fixed value does not fit, or the inputs do not agree in the size of their batch.
    """
    return OnnxModel(path, fixed=fixed, batch_axis=batch_axis, outputs=outputs)


class OnnxModel:
    """An ONNX file run by onnxruntime on the CPU; made by `onnx`, which documents the arguments.

    Attributes:
        inputs: what comes from the data, in the order of the file.
        outputs: what is answered.
        batch_size: the size of the batch if the graph fixes it.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        fixed: Fixed | None = None,
        batch_axis: int | Mapping[str, int] | None = None,
        outputs: str | Sequence[str] | None = None,
    ) -> None:
        path = Path(path)
        self._path, self._options = path, (fixed, batch_axis, outputs)
        self._session: Any = _open(path)
        self.__name__ = path.name
        every = [_port(i) for i in self._session.get_inputs()]
        answers = [_port(o) for o in self._session.get_outputs()]
        self._every = every
        fixed = {} if fixed is None else fixed
        self._check_names("fixed", fixed, every)
        self.inputs = [port for port in every if port.name not in fixed]
        self._is_single = isinstance(outputs, str)
        chosen = (
            [outputs] if isinstance(outputs, str) else [o.name for o in answers] if outputs is None else list(outputs)
        )
        self._check_names("outputs", chosen, answers)
        self.outputs = [next(o for o in answers if o.name == name) for name in chosen]
        named = batch_axis if isinstance(batch_axis, Mapping) else {}
        self._check_names("batch_axis", named, [*every, *answers])
        self._given: dict[str, int] = dict(named)
        if isinstance(batch_axis, int):
            self._given = {port.name: batch_axis for port in [*every, *answers] if port.shape or port not in every}
        for port in [*every, *answers]:
            axis, rank = self._given.get(port.name, 0), len(port.shape)
            if rank and not -rank <= axis < rank:
                raise ModelError(f"batch_axis = {axis} for {port}: give one of its axes, 0 to {rank - 1}")
        symbol = self._batch_symbol()
        self._axes = {port.name: self._axis_of(port, symbol) for port in [*every, *self.outputs]}
        self.batch_size = self._find_batch_size()
        self._fixed = {port.name: self._fixed_value(port, fixed[port.name]) for port in every if port.name in fixed}

    # --- what the file says -----------------------------------------------------------------------------------
    def _check_names(self, argument: str, names: Mapping[str, Any] | Sequence[str], ports: Sequence[Port]) -> None:
        for name in names:
            if name not in [port.name for port in ports]:
                raise UnknownNameError(
                    f"{argument}: {self._path.name} has no {name!r}; it has {', '.join(map(str, ports))}"
                )

    def _batch_symbol(self) -> str | None:
        """The name of the open size of the batch, where the inputs agree on one."""
        found = {
            size
            for port in self.inputs
            if port.shape and isinstance(size := port.shape[self._given.get(port.name, 0)], str)
        }
        return found.pop() if len(found) == 1 else None

    def _axis_of(self, port: Port, symbol: str | None) -> int:
        if port.name in self._given:
            return self._given[port.name]
        places = [i for i, size in enumerate(port.shape) if size == symbol] if symbol is not None else []
        return places[0] if len(places) == 1 else 0

    def _find_batch_size(self) -> int | None:
        """The size of the batch that the inputs from the data fix, or ``None``; a first axis need not be a batch."""
        found = {port.name: port.shape[self._axes[port.name]] for port in self.inputs if port.shape}
        sizes = {size for size in found.values() if isinstance(size, int)}
        if not sizes:
            return None
        if len(sizes) > 1 or not all(isinstance(size, int) for size in found.values()):
            axes = ", ".join(f"{name}: {self._axes[name]}" for name in found)
            raise ModelError(
                f"{self._path.name} has the inputs {', '.join(map(str, self._every))}, whose sizes on the axes {{{axes}}} are "
                "no batch that they share; name the axis of the batch, er.onnx(path, batch_axis={name: axis}), and give "
                "inputs that have none a value, fixed={name: value}"
            )
        return sizes.pop()

    def _fixed_value(self, port: Port, value: Any) -> np.ndarray[Any, Any]:
        """A fixed value as the input wants it, with a batch of one where the batch size is open."""
        if port.type not in NUMPY:
            raise ModelError(f"fixed: {port} is of {port.type}, for which no value can be given")
        try:
            array = np.asarray(value.detach().cpu().numpy() if isinstance(value, Tensor) else value)
            cast = array.astype(NUMPY[port.type])
        except (TypeError, ValueError) as error:
            raise ModelError(f"fixed[{port.name!r}] = {value!r} is no number or array of numbers for {port}") from error
        if (
            not np.array_equal(cast.astype(np.float64), array.astype(np.float64), equal_nan=True)
            and cast.dtype.kind in "iub"
        ):
            raise ModelError(f"fixed[{port.name!r}] = {value!r} is no value of {port.type}")
        if not port.shape or cast.ndim == len(port.shape):
            self._check_fixed(port, cast)
            return cast
        if cast.ndim:
            raise ModelError(f"fixed[{port.name!r}] has shape {list(cast.shape)}, but the input is {port}")
        sizes = list(port.shape)
        axis = self._axes[port.name]
        if self._has_batch(port):
            sizes[axis] = 1
        open_sizes = [i for i, size in enumerate(sizes) if not isinstance(size, int)]
        if open_sizes:
            raise ModelError(
                f"fixed[{port.name!r}] = {value!r}: the size of the axes {open_sizes} of {port} is open, so one number does not "
                "say how many are meant; give an array"
            )
        return np.full(sizes, cast)  # pyright: ignore[reportCallIssue, reportArgumentType]

    def _check_fixed(self, port: Port, value: np.ndarray[Any, Any]) -> None:
        for axis, (size, given) in enumerate(zip(port.shape, value.shape, strict=False)):
            if isinstance(size, int) and given not in (size, 1 if self._is_batch(port, axis) else size):
                raise ModelError(f"fixed[{port.name!r}] has shape {list(value.shape)}, but the input is {port}")

    def _has_batch(self, port: Port) -> bool:
        """Whether the value of a fixed input is repeated over the batch: where an axis was named, or its size is open."""
        return port.name in self._given or not isinstance(port.shape[self._axes[port.name]], int)

    def _is_batch(self, port: Port, axis: int) -> bool:
        return self._has_batch(port) and axis == self._axes[port.name] % len(port.shape)

    @property
    def dtype(self) -> torch.dtype | None:
        """The floating dtype of the inputs that come from the data, if they have one in common."""
        known = {"tensor(float)": torch.float32, "tensor(double)": torch.float64, "tensor(float16)": torch.float16}
        found = {known[port.type] for port in self.inputs if port.type in known}
        return found.pop() if len(found) == 1 else None

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (self._path, *self._options)

    # --- running --------------------------------------------------------------------------------------------
    def __call__(self, x: Tree) -> Tree:
        """Run the graph on a batch: answers ``[B, ...]``, a tensor for one output and a tuple for several.

        Raises:
            ModelError: x is not what the file takes, or an output has no batch where it should; names what there is.
        """
        feed = self._feed(x)
        n = next(iter(feed.values())).shape[0]
        if self.batch_size is None or n == self.batch_size:
            outputs = self._run(feed, n)
        else:
            size = self.batch_size
            pieces = [self._piece(feed, start, size, n) for start in range(0, n, size)]
            outputs = [np.concatenate(column)[:n] for column in zip(*pieces, strict=True)]
        tensors = tuple(tensor_of(output, f"an output of {self._path.name}") for output in outputs)
        return tensors[0] if len(tensors) == 1 and (self._is_single or self._options[2] is None) else tensors

    def _feed(self, x: Tree) -> dict[str, np.ndarray[Any, Any]]:
        names = [port.name for port in self.inputs]
        leaves = [x] if isinstance(x, Tensor) else list(x.values()) if isinstance(x, dict) else list(x)
        entries: dict[str, Any] = x if isinstance(x, dict) else dict(zip(names, leaves, strict=False))
        fits = all(isinstance(leaf, Tensor) and leaf.ndim for leaf in leaves)
        if not fits or set(entries) != set(names) or len(entries) != len(leaves):
            rest = f" (and {', '.join(self._fixed)} fixed)" if self._fixed else ""
            missing = [str(port) for port in self.inputs if port.name not in entries]
            hint = (
                f"; give {', '.join(missing)} too, or fix values: er.onnx(path, fixed={{name: value}})"
                if missing
                else ""
            )
            raise ModelError(
                f"{self._path.name} has the inputs {names}{rest}, but x is {tree_structure(x)}; give a dict with these "
                f"names, or a tuple in their order{hint}"
            )
        return {name: entries[name].detach().cpu().numpy() for name in names}

    def _piece(self, feed: dict[str, Any], start: int, size: int, n: int) -> list[Any]:
        """One piece of fixed size, the last one filled up with copies of the last sample."""
        index = np.minimum(np.arange(start, start + size), n - 1)
        return self._run({name: array[index] for name, array in feed.items()}, size)

    def _run(self, feed: dict[str, Any], n: int) -> list[Any]:
        """Answers with the batch first, to data with the batch first."""
        moved = {name: self._to_axis(name, array) for name, array in feed.items()}
        ports = {port.name: port for port in self._every}
        moved |= {name: self._repeated(ports[name], value, n) for name, value in self._fixed.items()}
        try:
            found = self._session.run([o.name for o in self.outputs], moved)
        except Exception as error:
            wanted = ", ".join(f"{port} of {port.type}" for port in self._every)
            given = ", ".join(f"{name} {list(array.shape)} of {array.dtype}" for name, array in moved.items())
            raise ModelError(
                f"{self._path.name} takes {wanted}, not {given}; onnxruntime says: {' '.join(str(error).split())}"
            ) from error
        return [self._from_axis(port, array, n) for port, array in zip(self.outputs, found, strict=True)]

    def _to_axis(self, name: str, array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        axis = self._axes[name]
        if not -array.ndim <= axis < array.ndim:
            port = next(port for port in self.inputs if port.name == name)
            raise ModelError(
                f"x[{name!r}] has shape {list(array.shape)}, too few axes for {port} with batch_axis = {axis}"
            )
        return np.ascontiguousarray(np.moveaxis(array, 0, axis))

    def _repeated(self, port: Port, value: np.ndarray[Any, Any], n: int) -> np.ndarray[Any, Any]:
        if not port.shape or not self._has_batch(port) or value.shape[self._axes[port.name]] == n:
            return value
        axis = self._axes[port.name]
        if value.shape[axis] != 1:
            raise ModelError(
                f"fixed[{port.name!r}] has {value.shape[axis]} entries on its batch axis {axis} for a batch of {n}; give one, "
                "which is repeated"
            )
        return np.repeat(value, n, axis)

    def _from_axis(self, port: Port, value: Any, n: int) -> np.ndarray[Any, Any]:
        array, axis = np.asarray(value), self._axes[port.name]
        if not -array.ndim <= axis < array.ndim or array.shape[axis] != n:
            others = ", ".join(map(str, [_port(o) for o in self._session.get_outputs()]))
            raise ModelError(
                f"{self._path.name} returned {port.name} of shape {list(array.shape)} for a batch of {n}, which is not on axis "
                f"{axis}; name it, er.onnx(path, batch_axis={{{port.name!r}: axis}}), or choose others with outputs= from "
                f"{others}"
            )
        return np.moveaxis(array, axis, 0)


def _again(path: Path, fixed: Any, batch_axis: Any, outputs: Any) -> OnnxModel:
    """A session cannot be pickled, so the model travels as its file and its options."""
    return OnnxModel(path, fixed=fixed, batch_axis=batch_axis, outputs=outputs)


def _port(argument: Any) -> Port:
    return Port(argument.name, tuple(argument.shape or ()), argument.type)


def _open(path: Path) -> Any:
    if not path.is_file():
        raise DataError(f"model = {str(path)!r}: there is no such file")
    if path.suffix != ".onnx":
        raise DataError(f"model = {str(path)!r}: only .onnx files can be run; pass a torch module as an object")
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtraError("onnxruntime", "onnx", "running an ONNX model") from error
    try:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise DataError(f"model = {str(path)!r} is not a readable ONNX file: {error}") from error
