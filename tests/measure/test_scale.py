"""A large audit, 10,000 samples x 576 elements: bounded memory, and an interrupt loses nothing that was done."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

pytestmark = pytest.mark.slow

COMMON = """
import pathlib, re, sys, time
import torch, erlangen as er

torch.set_num_threads(1)
generator = torch.Generator().manual_seed(0)
x = torch.randn(10_000, 6, generator=generator)
y = torch.randint(4, (10_000,), generator=generator)
torch.manual_seed(0)
net = torch.nn.Linear(6, 4).eval()
symmetry = er.Symmetry("SO(3)", input="2*vectors", output="invariant")


def megabytes():  # the peak of this program; getrusage would give the peak of the parent before exec
    return int(re.search(r"VmHWM:\\s+(\\d+)", pathlib.Path("/proc/self/status").read_text())[1]) / 1024
"""

MEASURE = """
er.audit(net, symmetry, x[:8], y[:8], elements=8, progress=False).to_html()  # what any audit loads
before = megabytes()
report = er.audit(net, symmetry, x, y, elements=576, progress=False)
report.to_html()
print(before, megabytes(), *report.errors.shape)
"""

RESUME = """
import signal
from safetensors.torch import save_file

signal.signal(signal.SIGINT, signal.default_int_handler)  # jobs in the background of a shell ignore it

calls, slow_from = 0, int(sys.argv[3])


def model(x):
    global calls
    calls += 1
    if calls == slow_from:
        print("slow", flush=True)
    if calls >= slow_from:
        time.sleep(0.05 if calls > slow_from else 30)  # the signal ends this sleep, whenever it comes
    return net(x)


report = er.audit(model, symmetry, x, y, elements=576, chunk=64, progress=False, resume=sys.argv[1] or None)
save_file({"errors": report.errors, "scores": report.scores, "consensus": report.consensus}, sys.argv[2])
print(report.complete, len(report.samples), calls)
"""


def start(code: str, *words: str) -> subprocess.Popen:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen(
        [sys.executable, "-c", COMMON + code, *words], stdout=subprocess.PIPE, text=True, env=environment
    )


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
def test_memory_is_bounded():
    """Less than 1 GB above the same process before the audit; the three result tables alone are 132 MB."""
    process = start(MEASURE)
    before, after, count, samples = process.communicate(timeout=120)[0].split()
    assert process.returncode == 0
    assert (int(count), int(samples)) == (576, 10_000)
    grown = float(after) - float(before)
    assert 132 < grown < 1000, f"{grown:.0f} MB"


def test_an_interrupted_audit_resumes_to_the_same_numbers(tmp_path):
    """SIGINT in the middle: the report covers what is done, and the second run does only the rest."""
    never = str(10**9)
    whole = start(RESUME, "", str(tmp_path / "whole"), never)
    complete, samples, all_calls = whole.communicate(timeout=120)[0].split()
    assert (complete, samples) == ("True", "10000")

    state = str(tmp_path / "state.safetensors")
    stopped = start(RESUME, state, str(tmp_path / "partial"), str(int(all_calls) // 2))
    assert stopped.stdout is not None
    assert stopped.stdout.readline().strip() == "slow"
    stopped.send_signal(signal.SIGINT)
    complete, samples, _ = stopped.communicate(timeout=120)[0].split()
    assert complete == "False"
    assert 0 < int(samples) < 10_000
    partial = load_file(tmp_path / "partial")
    reference = load_file(tmp_path / "whole")
    assert torch.equal(partial["errors"], reference["errors"][:, : int(samples)])

    resumed = start(RESUME, state, str(tmp_path / "resumed"), never)
    complete, samples, calls = resumed.communicate(timeout=120)[0].split()
    assert (complete, samples) == ("True", "10000")
    assert int(calls) < 0.7 * int(all_calls)
    again = load_file(tmp_path / "resumed")
    for name, table in reference.items():
        assert torch.equal(again[name], table), name


SLOW = """
import pathlib, signal, sys, time
import torch, erlangen as er
from safetensors.torch import save_file

signal.signal(signal.SIGINT, signal.default_int_handler)
torch.set_num_threads(1)
x = torch.randn(5, 4, 3, generator=torch.Generator().manual_seed(0))
torch.manual_seed(0)
net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 4), torch.nn.Tanh()).eval()
symmetry = er.Symmetry("SO(3)", input="points", output="invariant")
log = pathlib.Path(sys.argv[3]).open("a")


def model(x):
    print("call", file=log, flush=True)
    time.sleep(float(sys.argv[4]))
    answer = net(x)
    return {"logits": answer, "label": answer.argmax(-1)}


report = er.audit(model, symmetry, x, elements=300, chunk=1, progress=False, resume=sys.argv[1] or None)
save_file({"errors": report.errors, "consensus": report.consensus, "elements": report.orbit.elements}, sys.argv[2])
print(report.complete, len(report.samples), len(report.orbit), report.orbit.method, report.certificate)
"""
ASIDE = 45
"""Calls of the model beside those on the orbit: probes, base answers, Lie derivatives."""


def begin(tmp_path: Path, name: str, resume: str, pause: float = 0.02) -> subprocess.Popen:
    words = (resume, str(tmp_path / name), str(tmp_path / f"{name}.log"), str(pause))
    return start(SLOW, *words)


def calls(path: Path) -> int:
    return len(path.read_text().splitlines()) if path.exists() else 0


def test_killed_at_any_time_an_audit_loses_the_last_seconds_alone(tmp_path):
    """All samples form one block, which takes 6 s; killed three times, what the last two seconds did is done again."""
    whole = begin(tmp_path, "whole", "", 0)
    assert whole.communicate(timeout=60)[0].split()[:3] == ["True", "5", "300"]
    alone = calls(tmp_path / "whole.log")
    assert alone <= 300 + ASIDE

    state, rng = str(tmp_path / "state.safetensors"), random.Random(1)
    for wait in (rng.uniform(2.5, 3.5), rng.uniform(2.5, 3.5), rng.uniform(0.5, 1.0)):
        killed = begin(tmp_path, "resumed", state)
        before = calls(tmp_path / "resumed.log")
        while calls(tmp_path / "resumed.log") == before:
            time.sleep(0.01)
        time.sleep(wait)
        killed.kill()
        killed.communicate()
    resumed = begin(tmp_path, "resumed", state)
    assert resumed.communicate(timeout=60)[0].split()[:3] == ["True", "5", "300"]
    lost = calls(tmp_path / "resumed.log") - alone
    assert lost < 3 * (2.5 / 0.02 + ASIDE), f"{lost} calls were made twice"
    reference, again = load_file(tmp_path / "whole"), load_file(tmp_path / "resumed")
    assert all(torch.equal(again[name], table) for name, table in reference.items())


@pytest.mark.parametrize("resume", ["", "state"])
def test_an_interrupt_in_the_first_block_keeps_its_elements(tmp_path, resume):
    """No sample has seen all elements: the report covers those that all samples of the block have seen."""
    begin(tmp_path, "whole", "", 0).communicate(timeout=60)
    reference = load_file(tmp_path / "whole")
    state = str(tmp_path / resume) if resume else ""
    stopped = begin(tmp_path, "part", state)
    while calls(tmp_path / "part.log") < 80:
        time.sleep(0.01)
    stopped.send_signal(signal.SIGINT)
    complete, samples, count, method, certificate = stopped.communicate(timeout=60)[0].split()
    assert (complete, samples, method, certificate) == ("False", "5", "part", "statistical")
    assert 20 < int(count) < 300
    part = load_file(tmp_path / "part")
    assert torch.equal(part["elements"], reference["elements"][: int(count)])
    assert torch.equal(part["errors"], reference["errors"][: int(count)])
    if resume:
        before = calls(tmp_path / "part.log")
        again = begin(tmp_path, "part", state, 0)
        assert again.communicate(timeout=60)[0].split()[:3] == ["True", "5", "300"]
        assert calls(tmp_path / "part.log") - before <= 300 - int(count) + ASIDE
        assert all(torch.equal(load_file(tmp_path / "part")[name], table) for name, table in reference.items())
