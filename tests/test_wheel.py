"""The wheel: built from the clone, installed without it, used in another folder."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

NET = "import torch\ntorch.manual_seed(0)\nmodel = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 3))\n"
DATA = (
    "import numpy as np\nnp.savez('clouds.npz', x=np.random.default_rng(0).normal(size=(20, 4, 3)).astype('float32'))\n"
)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the library alone; its dependencies are those of the environment."""
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("wheel")
    build = f"from hatchling.build import build_wheel; print(build_wheel({str(folder)!r}))"
    subprocess.run([sys.executable, "-c", build], cwd=ROOT, check=True, capture_output=True)
    [wheel] = folder.glob("*.whl")
    assert wheel.stat().st_size < 10e6
    site = folder / "site"
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        "--target",
        str(site),
        str(wheel),
    ]
    subprocess.run(pip, check=True, capture_output=True)
    return site


def use(installed: Path, folder: Path, *words: str) -> str:
    """What a command prints; the library is the installed one and no other."""
    code = (
        f"import sys, erlangen; assert erlangen.__file__.startswith({str(installed)!r}), erlangen.__file__; "
        "from erlangen.cli import main; main()"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(installed), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_the_ledger_comes_along(installed: Path, tmp_path: Path) -> None:
    systems = json.loads(use(installed, tmp_path, "list", "--json"))
    assert len(systems) >= 16
    assert all(row["holds"] > 0 for row in systems)
    claims = json.loads(use(installed, tmp_path, "claims", "--json"))
    assert {claim["system"] for claim in claims} == {row["system"] for row in systems}


def test_an_audit_and_a_system(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(NET)
    subprocess.run([sys.executable, "-c", DATA], cwd=tmp_path, check=True)
    words = ["--group", "SO(3)", "--input", "points", "--output", "invariant", "--data", "clouds.npz", "--json", "-"]
    assert json.loads(use(installed, tmp_path, "audit", "net.py:model", *words))["error"]["mean"] > 0.1
    assert "tinvnn" in use(installed, tmp_path, "show", "tinvnn")


def test_the_demo(installed: Path, tmp_path: Path) -> None:
    assert "exact" in use(installed, tmp_path, "demo")
    assert (tmp_path / "erlangen-demo" / "report.html").stat().st_size > 10_000
