"""What users of version 0.1.0 have: its names import with a warning, and the files that it wrote are read.

The files in ``files_of_0_1_0`` were written by that version: a checkpoint of `er.fit` after three epochs, the resume file of an
audit, a result of the ledger; ``expected.json`` holds what it measured when it went on from them.
"""

import importlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

import erlangen as er
from erlangen.survey.ledger import discover_systems
from erlangen.survey.results import count_verdicts, read_entry

FILES = Path(__file__).parent / "files_of_0_1_0"
EXPECTED = json.loads((FILES / "expected.json").read_text())


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.Tanh(), nn.Linear(8, 2))


def data() -> tuple[Tensor, Tensor]:
    x = torch.randn(40, 4, 3, generator=torch.Generator().manual_seed(0))
    return x, (x[:, 0, 0] > 0).long()


@pytest.mark.parametrize(
    ("old", "new", "name"),
    [
        ("erlangen.ledger", "erlangen.survey.ledger", "run"),
        ("erlangen.results", "erlangen.survey.results", "read_entry"),
        ("erlangen.verification", "erlangen.survey.verification", "verify"),
        ("erlangen.measure.explorer", "erlangen.explorer", "explore"),
    ],
)
def test_modules_that_moved(old: str, new: str, name: str) -> None:
    code = f"from {old} import {name}; import {old} as a, {new} as b; assert a is b and a.{name} is {name}"
    ran = subprocess.run([sys.executable, "-W", "always", "-c", code], capture_output=True, text=True, check=True)
    assert f"DeprecationWarning: {old} is now {new}" in ran.stderr


def test_names_that_moved() -> None:
    from erlangen import claims, measure

    assert claims.Claim is er.survey.Claim
    with pytest.warns(DeprecationWarning, match=r"erlangen.measure.explore is now erlangen.explorer.explore"):
        assert measure.explore is er.explore


def test_systems_are_where_they_were() -> None:
    """The dotted path of a system was that of a module, and is that of a package."""
    for name, path in discover_systems().items():
        assert importlib.import_module(path) is getattr(er.systems, name)


def test_the_place_of_training_one_by_one() -> None:
    x, y = data()
    with pytest.warns(DeprecationWarning, match="accelerator=, devices=.*place=Place"):
        er.fit(model(), x, y, loss=nn.functional.cross_entropy, epochs=1, accelerator="cpu", devices=1, progress=False)
    with pytest.raises(TypeError, match="no argument 'device'"):
        er.fit(model(), x, y, loss=nn.functional.cross_entropy, epochs=1, device="cpu")


def test_a_checkpoint_is_resumed(tmp_path: Path) -> None:
    x, y = data()
    path = tmp_path / "checkpoint.pt"
    shutil.copy(FILES / "checkpoint.pt", path)
    net = model()
    result = er.fit(
        net, x, y, loss=nn.functional.cross_entropy, epochs=6, batch_size=10, checkpoint=path, progress=False,
        validation=(x[:10], y[:10]),
    )  # fmt: skip
    assert result.resumed_from == 3
    assert [row["loss"] for row in result.history] == pytest.approx(EXPECTED["history"], rel=1e-5)
    weights = sum(float(p.detach().double().abs().sum()) for p in net.parameters())
    assert weights == pytest.approx(EXPECTED["weights"], rel=1e-5)


def test_an_audit_goes_on_from_its_file(tmp_path: Path) -> None:
    """The file is complete, so the errors of the report are those in it, also when they are other ones."""
    x, y = data()
    path = tmp_path / "audit.safetensors"
    shutil.copy(FILES / "audit.safetensors", path)
    sym = er.Symmetry("SO(3)", input="points", output="invariant")
    report = er.audit(model(), sym, x, y, elements=16, seed=0, resume=path)
    assert report.error == pytest.approx(EXPECTED["audit_error"], rel=1e-12)
    with safe_open(FILES / "audit.safetensors", framework="pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict
        metadata = file.metadata()
    save_file(tensors | {"errors": torch.full_like(tensors["errors"], 7.0)}, path, metadata=metadata)
    assert er.audit(model(), sym, x, y, elements=16, seed=0, resume=path).error == 7.0


def test_a_result_is_read() -> None:
    entry = read_entry(FILES / "tinvnn.json")
    assert entry["version"] == "0.1.0"
    counts = count_verdicts(entry)
    assert (counts["holds"], counts["fails"], counts["not measurable here"]) == (18, 0, 1)
    assert all("verdict" in claim for claim in entry["claims"])
