"""What a checkpoint of `erlangen.fit` holds: plain data under a checksum, and an optimizer that is told its new options."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from erlangen.errors import CheckpointError, ErlangenError
from erlangen.files import first_line, read_archive, reading, sealed_archive, write_bytes

Options = list[dict[str, Any]]
"""What an optimizer was told for each of its groups of parameters: rates, decays, momenta."""


def plain(value: Any, name: str) -> Any:
    """The same in Python's own types and tensors: numpy's numbers and arrays cannot be read back without running code.

    Raises:
        ErlangenError: there is no such form.
    """
    if isinstance(value, np.generic):
        return plain(value.item(), name)
    if isinstance(value, np.ndarray):
        return plain(value.tolist(), name)
    if isinstance(value, Mapping):
        kind = OrderedDict if isinstance(value, OrderedDict) else dict
        return kind((plain(key, name), plain(item, f"{name}[{key!r}]")) for key, item in value.items())
    if type(value) in (list, tuple, set):
        return type(value)(plain(item, name) for item in value)
    if isinstance(value, tuple):  # one with names
        return tuple(plain(item, name) for item in value)
    kinds: tuple[Any, ...] = (bool, int, float, complex, str, bytes)
    for kind in kinds:
        if isinstance(value, kind):  # also those derived from them, such as torch.torch_version.TorchVersion
            return value if type(value) is kind else kind(value)
    if value is None or isinstance(value, (Tensor, torch.dtype, torch.device, torch.Size)):
        return value
    raise ErlangenError(
        f"{name} is a {type(value).__name__}, which a checkpoint cannot hold; give a number, text or tensor"
    )


def metric_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """Metrics of an epoch, in which tensors and numpy's numbers of one entry are numbers."""
    found = {str(key): item for key, item in row.items()}
    for key, item in found.items():
        if isinstance(item, Tensor):
            found[key] = item.item() if item.numel() == 1 else item.tolist()
    return {key: plain(item, f"metrics[{key!r}]") for key, item in found.items()}


def write_checkpoint(path: Path, state: dict[str, Any], *, prove: bool) -> None:
    """Replace the file at once. With `prove` it is read first, so that no run goes on beside a file that is of no use.

    Raises:
        CheckpointError: the state cannot be read back, or the file cannot be written.
    """
    with reading(f"checkpoint = {str(path)!r} cannot be written", error=CheckpointError):
        data = sealed_archive(state)
        if prove:
            try:
                read_archive(data)
            except Exception as error:
                raise CheckpointError(
                    f"checkpoint = {str(path)!r} could not be read again ({first_line(error)}); the model's state must hold "
                    "tensors and plain data alone: see its get_extra_state"
                ) from error
        write_bytes(path, data)


def options_of(optimizer: Any) -> Options:
    """What an optimizer was told, without its parameters."""
    groups = [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]
    return plain(groups, "an option of the optimizer")


def restore_optimizer(optimizer: Any, state: dict[str, Any], made: Options, before: Options | None) -> None:
    """Load the state of an optimizer, then let those options of this call win that are others than those of the first.

    What schedules and callbacks made of an option stays where the call did not change it.

    Args:
        optimizer: a fresh one.
        state: its ``state_dict`` in the checkpoint.
        made: options of this call.
        before: options of the call that wrote the checkpoint; None in files of version 0.1.0.

    Raises:
        ValueError: the state is of another kind of optimizer.
    """
    saved = state["param_groups"]
    if before is None:
        _check_options(made, saved)
        before = [group | {"lr": group.get("initial_lr", group.get("lr"))} for group in saved]
    optimizer.load_state_dict(state)
    for group, now, then in zip(optimizer.param_groups, made, before, strict=True):
        for key, value in now.items():
            if key not in then or not _equal(value, then[key]):
                group[key] = value
                if key == "lr" and "initial_lr" not in now:
                    group.pop("initial_lr", None)  # a schedule begins from the new rate


def _check_options(made: Options, saved: Options) -> None:
    """Optimizers of different kinds have options that the other lacks."""
    for now, then in zip(made, saved, strict=False):
        lacking, unknown = set(now) - set(then), set(then) - set(now) - {"params", "initial_lr"}
        if lacking and unknown:
            raise ValueError(
                f"it was written with an optimizer of another kind, with {', '.join(sorted(unknown))} and without "
                f"{', '.join(sorted(lacking))}"
            )


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        return bool(torch.as_tensor(a).cpu().double().equal(torch.as_tensor(b).cpu().double()))
    return bool(a == b)
