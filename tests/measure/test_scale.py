"""A large audit, 10,000 samples x 576 elements: bounded memory, and an interrupt loses nothing that was done."""

import os
import signal
import subprocess
import sys
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
