"""The survey: one package per published system, in rooms by area, and all of them by name.

>>> import erlangen as er
>>> er.systems.tinvnn.TinvNN.__name__
'TinvNN'

A system is ``erlangen.systems.<area>.<name>``, a package with ``SYSTEM``, the facts of its paper, its public classes, and a
module ``experiment``. It is found because it is there, and imported when it is asked for. No system imports another one.
"""

from __future__ import annotations

import importlib
from types import ModuleType


def __getattr__(name: str) -> ModuleType:
    if not name.startswith("_"):
        from erlangen.survey.ledger import discover_systems

        if name in (known := discover_systems()):
            return importlib.import_module(known[name])
    raise AttributeError(f"module 'erlangen.systems' has no attribute {name!r}")


def __dir__() -> list[str]:
    from erlangen.survey.ledger import discover_systems

    return sorted({*globals(), *discover_systems()})
