"""Two processes train as one: same weights as one process with twice the batch, checkpoints, and the command line."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import erlangen as er
from erlangen.training import is_first_process, training_on

SCRIPT = """
import sys, torch
import erlangen as er
from erlangen.training import is_first_process, training_on

def main(devices, epochs, out, checkpoint):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(64, 5, generator=generator)
    y = x @ torch.randn(5, 2, generator=generator)
    torch.manual_seed(1)
    model = torch.nn.Sequential(torch.nn.Linear(5, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2))
    with training_on(devices=devices):
        result = er.fit(
            model, x, y, loss=torch.nn.functional.mse_loss, epochs=epochs, batch_size=16 // devices,
            optimizer=lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9), checkpoint=checkpoint or None,
            validation=(x[:10], y[:10]), progress=False,
        )
    if is_first_process():
        torch.save({"state": model.state_dict(), "losses": [row["loss"] for row in result.history],
                    "resumed": result.resumed_from}, out)

main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4])
"""


def environment() -> dict[str, str]:
    """One thread each, and the library on the path of the second process, too."""
    source = str(Path(er.__file__).parents[1])
    return os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": source}


def trained(folder, devices, epochs, name="out.pt", checkpoint=""):
    script = folder / "train.py"
    script.write_text(SCRIPT)
    out = folder / name
    command = [sys.executable, str(script), str(devices), str(epochs), str(out), str(checkpoint)]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return torch.load(out, weights_only=True)


def test_two_processes_train_as_one_with_twice_the_batch(tmp_path):
    one, two = trained(tmp_path, 1, 4), trained(tmp_path, 2, 4, "two.pt")
    for key, value in one["state"].items():
        torch.testing.assert_close(two["state"][key], value, rtol=1e-5, atol=1e-6)
    assert two["losses"] == pytest.approx(one["losses"], rel=1e-5)
    assert one["losses"][-1] < 0.5 * one["losses"][0]


def test_two_processes_resume_a_checkpoint(tmp_path):
    whole = trained(tmp_path, 2, 4, "whole.pt")
    checkpoint = tmp_path / "run.pt"
    trained(tmp_path, 2, 2, "half.pt", checkpoint)
    rest = trained(tmp_path, 2, 4, "rest.pt", checkpoint)
    assert rest["resumed"] == 2
    for key, value in whole["state"].items():
        torch.testing.assert_close(rest["state"][key], value, rtol=1e-6, atol=1e-7)


SYSTEM = '''
"""A system of one claim: it trains, and says in how many processes."""
import torch
import erlangen as er
from erlangen.survey.claims import Claim, Result, System

SYSTEM = System(title="t", authors=("a",), venue="v", year=2024, arxiv="2401.00000", abstract_claims=("c",))

def experiment(scale, seed):
    model = torch.nn.Linear(3, 1)
    x = torch.ones(8, 3)
    er.fit(model, x, x[:, :1], loss=torch.nn.functional.mse_loss, epochs=2, batch_size=4, progress=False)
    world = torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1
    return Result([{"processes": world}], [Claim.exact("ran", "It ran.", measured=0.0, tol=0)])
'''


@pytest.mark.parametrize("devices", [1, 2])
def test_run_takes_devices(tmp_path, devices):
    (tmp_path / "small.py").write_text(SYSTEM)
    command = [sys.executable, "-m", "erlangen", "run", "small.py", "--devices", str(devices), "--json", "-"]
    done = subprocess.run(
        command, env=environment(), cwd=tmp_path, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout)["rows"] == [{"processes": devices}]


def test_the_place_ends_with_the_block():
    assert is_first_process()
    with pytest.raises(er.ErlangenError, match="devices = 0"), training_on(devices=0):
        pass
    model, x = torch.nn.Linear(2, 1), torch.ones(4, 2)
    with training_on("no such device"), pytest.raises(ValueError, match="no such device"):
        er.fit(model, x, x[:, :1], loss=torch.nn.functional.mse_loss, epochs=1)
    er.fit(model, x, x[:, :1], loss=torch.nn.functional.mse_loss, epochs=1, progress=False)
