"""No damaged file gives a foreign error, hangs or fills the memory; see `campaign`."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import erlangen as er
from erlangen.errors import ActionError, ErlangenError, GroupError, OrbitError, UnknownNameError

HERE = Path(__file__).parent
COUNT = int(os.environ.get("ERLANGEN_MUTANTS", "12"))
SEED = os.environ.get("ERLANGEN_MUTANTS_SEED", "0")


def test_damaged_files_are_refused_by_every_loader() -> None:
    pytest.importorskip("resource")  # the program limits its own memory
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(HERE / "campaign.py"), SEED, str(COUNT)]
    ran = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60 + 5 * COUNT)
    assert ran.returncode == 0, ran.stderr[-2000:]
    found = json.loads(ran.stdout)
    assert found["foreign"] == []
    assert found["refused"] > 3 * COUNT  # they are damaged indeed


@pytest.mark.parametrize(
    "name",
    [
        "SO(2001)", "GL+(101)", "SL(5000)", "SE(9999999)",
        "Sp(51)", "Lorentz(1,500)", "Translation(100000)", "TrivialGroup(99999999999)",
        "C9999999999", "Dihedral(10000000000)", "S999999999", f"Cyclic(1{'0' * 900})", "Shifts(99999999999)",
        f"Shifts({','.join('2' * 70)})", "SemidirectProduct(SO(5000))",
    ],
)  # fmt: skip
def test_groups_of_absurd_sizes_are_refused_at_once(name: str) -> None:
    began = time.perf_counter()
    with pytest.raises((GroupError, OrbitError), match=r"up to|at most|too large"):
        er.group(name)
    assert time.perf_counter() - began < 1


@pytest.mark.parametrize("name", ["SemidirectProduct(" * 2000, " x ".join(["SO(3)"] * 500), "[" * 5000])
def test_absurd_names_are_refused_at_once(name: str) -> None:
    with pytest.raises(UnknownNameError, match="a name has at most 1000 letters"):
        er.group(name)
    with pytest.raises(UnknownNameError, match="a name has at most 1000 letters"):
        er.Symmetry("SO(3)", input=name, output="invariant")


@pytest.mark.parametrize(
    "name", ["999999999*vectors", f"{'9' * 500}*vectors", "0*vectors", "00*vectors", "10001*points"]
)
def test_multiplicities_are_limited(name: str) -> None:
    with pytest.raises(ActionError, match="the multiplicity must be positive, and at most 10,000"):
        er.Symmetry("SO(3)", input=name, output="invariant")


def test_orders_of_thousands_of_digits_are_written_shortly() -> None:
    """2000! has 5736 digits; Python writes out 4300 at most."""
    with pytest.raises(ErlangenError, match=r"about 10\^5736|about 10\^5735"):
        er.group("Symmetric(2000)").elements()
    with pytest.raises(GroupError, match=r"leave out some of its about 10\^573"):
        er.group("Symmetric(2000)").grid(5)
