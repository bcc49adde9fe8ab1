"""A survey for tests: small systems in a folder of their own, found as those of the library are."""

import sys
from pathlib import Path

HEAD = '''"""{name}: what a test needs.

A paragraph with *Markdown*.
"""
from pathlib import Path
import torch
from erlangen.survey import Claim, Result, System
from erlangen.errors import MissingExtraError

SYSTEM = System("A title | of {name}", ("A. Author",), "ICLR", 2022, "2110.03336", ("It holds.",))

def ran():
    with Path("runs.log").open("a") as log:
        log.write("{name}\\n")
'''
BODIES = {
    "good": """
def experiment(run, *, throws: int = 100, rule: str | None = None):
    ran()
    p = torch.rand(throws).mean().item()
    rows = [{"method": "ours", "throws": throws, "p": p, "rule": rule}, {"method": "base", "error": float("nan")}]
    return Result(rows, [
        Claim.number("fair", "Half | of them.", measured=p, expected=0.5, tol=0.2),
        Claim.not_measurable("big", "It wins.", published=0.8, reason="needs ImageNet"),
    ])

def figure(result):
    from erlangen import plots
    return plots.barh({"throws": [result.rows[0]["throws"]]}, ["coin"], "throws")
""",
    "failing": """
def experiment(scale, seed, device="cpu"):
    ran()
    return Result([{"device": device}], [Claim.exact("zero", "The error is zero.", measured=0.5)])
""",
    "raising": """
def experiment(scale, seed):
    ran()
    raise RuntimeError("two\\nlines")
""",
    "needy": """
def experiment(scale, seed):
    raise MissingExtraError("pyarrow", "files", "reading scans")
""",
}


def write_system(folder: Path, name: str, body: str | None = None) -> Path:
    """A module with the facts of a paper and this body (by default that of the name above)."""
    path = folder / f"{name}.py"
    path.write_text(HEAD.replace("{name}", name) + (BODIES[name] if body is None else body))
    return path


def write_area(root: Path, *names: str) -> Path:
    """An area of fake systems below `root`; its folder."""
    area = root / "invented"
    area.mkdir(parents=True)
    (area / "__init__.py").write_text("")
    for name in names:
        write_system(area, name)
    return area


def forget(area: str = "invented") -> None:
    """Take what was imported from an area out of Python's memory."""
    import erlangen.systems

    for name in [name for name in sys.modules if name.startswith(f"erlangen.systems.{area}")]:
        del sys.modules[name]
    vars(erlangen.systems).pop(area, None)
