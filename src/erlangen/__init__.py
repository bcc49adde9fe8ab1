"""erlangen: declare a symmetry once, then measure, enforce, relax, learn and train with it.

>>> import torch, erlangen as er
>>> sym = er.Symmetry("SO(3)", input="points", output="invariant")
>>> _ = torch.manual_seed(0)
>>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(30, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2))
>>> x = torch.randn(8, 10, 3, generator=torch.Generator().manual_seed(0))
>>> bool(er.equivariance_error(model, sym, x) > 0.1)
True
>>> exact = er.symmetrize(model, sym)
>>> bool(er.equivariance_error(exact, sym, x, reduce="max") < 1e-5)
True
"""

from erlangen import _interrupts  # noqa: F401  # pyright: ignore[reportUnusedImport] - before what takes long

# isort: split
import importlib
from typing import TYPE_CHECKING, Any

from erlangen import actions, data, enforce, errors, groups, measure, numerics, soft, testing
from erlangen.enforce import symmetrize
from erlangen.errors import ErlangenError, ErlangenWarning
from erlangen.groups import (
    SE,
    SL,
    SO,
    Affine,
    Cyclic,
    Dihedral,
    DirectProduct,
    E,
    Flow,
    Generated,
    GLPlus,
    Group,
    Icosahedral,
    Lorentz,
    O,
    Octahedral,
    Scaling,
    SemidirectProduct,
    Shifts,
    Similarity,
    Stabilizer,
    Subgroup,
    Symmetric,
    Translation,
    group,
)
from erlangen.measure import (
    AuditReport,
    EquivarianceTracker,
    assert_equivariant,
    audit,
    equivariance_error,
    lie_derivative,
    onnx,
    worst_case,
)
from erlangen.soft import augment, discover, relax
from erlangen.symmetry import Symmetry
from erlangen.training import fit
from erlangen.version import __version__

if TYPE_CHECKING:
    from erlangen import (
        causal,
        claims,
        equations,
        explorer,
        generate,
        geometry,
        irreps,
        learn,
        nn,
        plots,
        render,
        reps,
        simulate,
        solve,
        survey,
        systems,
    )
    from erlangen.explorer import explore

__all__ = [
    "Affine",
    "AuditReport",
    "Cyclic",
    "Dihedral",
    "DirectProduct",
    "E",
    "EquivarianceTracker",
    "ErlangenError",
    "ErlangenWarning",
    "Flow",
    "GLPlus",
    "Generated",
    "Group",
    "Icosahedral",
    "Lorentz",
    "O",
    "Octahedral",
    "SE",
    "SL",
    "SO",
    "Scaling",
    "SemidirectProduct",
    "Shifts",
    "Similarity",
    "Stabilizer",
    "Subgroup",
    "Symmetric",
    "Symmetry",
    "Translation",
    "__version__",
    "actions",
    "assert_equivariant",
    "audit",
    "augment",
    "causal",
    "claims",
    "data",
    "discover",
    "enforce",
    "equations",
    "equivariance_error",
    "errors",
    "explore",
    "explorer",
    "fit",
    "generate",
    "geometry",
    "group",
    "groups",
    "irreps",
    "learn",
    "lie_derivative",
    "measure",
    "nn",
    "numerics",
    "onnx",
    "plots",
    "relax",
    "render",
    "reps",
    "simulate",
    "soft",
    "solve",
    "survey",
    "symmetrize",
    "systems",
    "testing",
    "worst_case",
]

_ROOMS = {
    "causal",
    "claims",
    "equations",
    "explorer",
    "generate",
    "geometry",
    "irreps",
    "learn",
    "nn",
    "plots",
    "render",
    "reps",
    "simulate",
    "solve",
    "survey",
    "systems",
}
"""Rooms that are imported when they are first asked for."""


def __getattr__(name: str) -> Any:
    if name == "explore":
        return importlib.import_module("erlangen.explorer").explore
    if name in _ROOMS:
        return importlib.import_module(f"erlangen.{name}")
    raise AttributeError(f"module 'erlangen' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
