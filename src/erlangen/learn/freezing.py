"""Training a part of a network: which tensors, or which entries of a tensor, and a report of what that is."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from erlangen.errors import ErlangenError, ShapeError, UnknownNameError

Rule = str | type[nn.Module] | Callable[[str, nn.Parameter], bool]
"""A pattern of parameter names ("*.bias"), a class of modules whose own parameters are meant, or a function of both."""

NORMS = (
    *(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.LayerNorm, nn.RMSNorm, nn.GroupNorm),
    *(nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d),
)
"""The normalisations of torch, as rules for `freeze`."""


@dataclass(frozen=True)
class FreezeReport:
    """Which parameters are trained.

    Attributes:
        trained: entries of each trained parameter, by name.
        frozen: entries of each other parameter.
    """

    trained: dict[str, int]
    frozen: dict[str, int]

    @property
    def share(self) -> float:
        """Trained entries over all entries."""
        total = sum(self.trained.values()) + sum(self.frozen.values())
        return sum(self.trained.values()) / total if total else 0.0

    def __str__(self) -> str:
        count, total = sum(self.trained.values()), sum(self.trained.values()) + sum(self.frozen.values())
        return f"{count:,} of {total:,} parameters are trained ({self.share:.2%}): {', '.join(self.trained) or 'none'}"


def freeze(model: nn.Module, *, train: Rule | tuple[Rule, ...]) -> FreezeReport:
    """Train only the parameters that a rule names; all others get ``requires_grad=False`` and stay bit for bit.

    >>> net = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
    >>> print(freeze(net, train=NORMS))
    16 of 83 parameters are trained (19.28%): 1.weight, 1.bias
    >>> print(freeze(net, train=("3.*", nn.BatchNorm1d)))
    43 of 83 parameters are trained (51.81%): 1.weight, 1.bias, 3.weight, 3.bias

    Buffers, such as the running statistics of batch normalisation, follow the mode of the module as always: they are not trained,
    and yet change in train mode. Give the optimizer ``[p for p in model.parameters() if p.requires_grad]``; `check_optimizer`
    refuses one that was made before.

    Args:
        model: changed in place.
        train: one or several rules; a parameter is trained if one of them names it.

    Raises:
        UnknownNameError: a pattern or a class that names no parameter.
    """
    rules = train if isinstance(train, tuple) else (train,)
    owners = {id(parameter): module for module in model.modules() for parameter in module.parameters(recurse=False)}
    matched = [False] * len(rules)
    report = FreezeReport({}, {})
    for name, parameter in model.named_parameters():
        hits = [_names(rule, name, parameter, owners[id(parameter)]) for rule in rules]
        matched = [was or hit for was, hit in zip(matched, hits, strict=True)]
        parameter.requires_grad_(any(hits))
        (report.trained if any(hits) else report.frozen)[name] = parameter.numel()
    unused = [rule for rule, hit in zip(rules, matched, strict=True) if not hit]
    # One of several classes may be absent (a list of all normalisations); a pattern alone that fits nothing is a slip.
    slips = [rule for rule in unused if isinstance(rule, str)] or (unused if not any(matched) else [])
    if slips:
        shown = ", ".join(
            repr(rule) if isinstance(rule, str) else getattr(rule, "__name__", str(rule)) for rule in slips
        )
        names = [*report.trained, *report.frozen]
        raise UnknownNameError(f"train = {shown} names no parameter; parameters are {', '.join(names[:20])}")
    return report


def _names(rule: Rule, name: str, parameter: nn.Parameter, owner: nn.Module) -> bool:
    if isinstance(rule, str):
        return fnmatch.fnmatchcase(name, rule)
    if isinstance(rule, type):
        return isinstance(owner, rule)
    return bool(rule(name, parameter))


def check_optimizer(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Refuse an optimizer that does not hold exactly what the model trains, as one made before `freeze` or `train_entries`.

    >>> net = nn.Linear(4, 2)
    >>> optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    >>> report = freeze(net, train="bias")
    >>> check_optimizer(net, optimizer)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    erlangen.errors.ErlangenError: optimizer holds weight, which is frozen: momentum can still move it; make it anew of ...

    A frozen parameter in an optimizer moves with the momentum and the gradient that it has from before; one that is not the
    model's, but that of a copy, is trained to no effect.

    Raises:
        ErlangenError: the optimizer holds a frozen parameter or one that is not the model's, or lacks one that is trained.
    """
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    trained = {id(parameter) for parameter in model.parameters() if parameter.requires_grad}
    held = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    remedy = "make it anew of [p for p in model.parameters() if p.requires_grad]"
    for parameter in held:
        if id(parameter) not in names:
            raise ErlangenError(
                f"optimizer holds a parameter of shape {tuple(parameter.shape)} that is not the model's; {remedy}"
            )
        if id(parameter) not in trained:
            raise ErlangenError(
                f"optimizer holds {names[id(parameter)]}, which is frozen: momentum can still move it; {remedy}"
            )
    missing = trained - {id(parameter) for parameter in held}
    if missing:
        name = next(name for key, name in names.items() if key in missing)
        raise ErlangenError(f"optimizer lacks {name}, which is trained; {remedy}")


class _Entries(nn.Module):
    """A tensor of which some entries are a parameter and the rest a buffer."""

    base: Tensor
    mask: Tensor

    def __init__(self, base: Tensor, mask: Tensor) -> None:
        super().__init__()
        self.register_buffer("base", base.detach().clone())
        self.register_buffer("mask", mask.clone())

    def forward(self, entries: Tensor) -> Tensor:
        return self.base.masked_scatter(self.mask, entries)

    def right_inverse(self, whole: Tensor) -> Tensor:
        return whole[self.mask]


def train_entries(model: nn.Module, masks: Mapping[str, Tensor]) -> FreezeReport:
    """Train only some entries of some tensors; what lies outside of the masks cannot move, whatever the optimizer does.

    >>> net = nn.Linear(4, 2, bias=False)
    >>> print(train_entries(net, {"weight": torch.eye(2, 4).bool()}))
    2 of 8 parameters are trained (25.00%): weight

    The entries become a parameter of their own (``parametrizations.NAME.original``), so momenta and weight decay see
    nothing else. All other parameters are frozen.

    Args:
        model: changed in place; ``torch.nn.utils.parametrize.remove_parametrizations`` gives the plain tensor back.
        masks: boolean tensors in the shape of the parameters, by name.

    Raises:
        UnknownNameError: no such parameter.
        ShapeError: a mask of another shape or dtype.
        ErlangenError: a mask without a true entry.
    """
    parameters = dict(model.named_parameters())
    for name, mask in masks.items():
        if name not in parameters:
            raise UnknownNameError(
                f"masks: {name!r} is no parameter; parameters are {', '.join(list(parameters)[:20])}"
            )
        if mask.dtype != torch.bool or mask.shape != parameters[name].shape:
            raise ShapeError(
                f"masks[{name!r}] is {mask.dtype} of shape {tuple(mask.shape)}; give a boolean tensor of shape "
                f"{tuple(parameters[name].shape)}"
            )
        if not bool(mask.any()):
            raise ErlangenError(f"masks[{name!r}] is false everywhere; leave out what is not trained")
    report = FreezeReport({}, {})
    for name, parameter in parameters.items():
        parameter.requires_grad_(name in masks)
        trained = int(masks[name].sum()) if name in masks else 0
        if trained:
            report.trained[name] = trained
        if parameter.numel() > trained:
            report.frozen[name] = parameter.numel() - trained
    for name, mask in masks.items():
        owner, _, attribute = name.rpartition(".")
        module = model.get_submodule(owner)
        parametrize.register_parametrization(
            module, attribute, _Entries(parameters[name], mask.to(parameters[name].device))
        )
    return report
