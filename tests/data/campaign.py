"""Damaged files for every public loader: each call must give an answer or an error of this library, and soon.

Run as a program, it prints one line of JSON: how many files were read, refused, and what else came. `test_campaign` does
that with little memory and a seed; for a longer one: ``ERLANGEN_MUTANTS=200 pytest tests/data/test_campaign.py``.
"""

import gzip
import json
import random
import re
import resource
import shutil
import signal
import struct
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path

import networkx as nx
import numpy as np
import torch
from torch import nn

import erlangen as er
from erlangen.data import captured_motion, fashion, graph6_graphs, load_data, molecular_graphs, pedestrians, tu_graphs
from erlangen.errors import ErlangenError, ErlangenWarning
from erlangen.irreps import Irreps
from erlangen.reps.cache import cached, clear_memory
from erlangen.survey.results import read_entry
from erlangen.survey.verification import verify

SECONDS = 5
"""A loader that takes longer on one of these small files hangs."""
HERE = Path(__file__).parent
OLD = HERE.parent / "files_of_0_1_0"


class Hang(BaseException):
    """The time is up; no `except Exception` stops it."""


def mutated(data: bytes, rng: random.Random) -> bytes:
    """Flipped, cut, doubled, filled up, or with another number in it."""
    kind, at = rng.randrange(7), rng.randrange(len(data) + 1) if data else 0
    width = 1 << rng.randrange(8)
    if kind == 0 and data:
        at = min(at, len(data) - 1)
        return data[:at] + bytes([data[at] ^ (1 << rng.randrange(8))]) + data[at + 1 :]
    if kind == 1:
        return data[:at]
    if kind == 2:
        return data[:at] + rng.randbytes(width) + data[at + (width if rng.random() < 0.5 else 0) :]
    if kind == 3:
        return data[:at] + data[at : at + width] * rng.choice((2, 3, 50)) + data[at + width :]
    if kind == 4:
        return data[:at] + rng.choice((b"\0", b"\xff")) * width + data[at + width :]
    if kind == 5:
        return data[:at] + data[at + width :]
    numbers = list(re.finditer(rb"\d+", data))
    if not numbers:
        return data[::-1]
    one = rng.choice(numbers)
    other = rng.choice((b"-1", b"0", b"9" * 12, b"9" * 30, b"1e400", b"nan", b"2147483648", b"", b"[" * 3000, b"x"))
    return data[: one.start()] + other + data[one.end() :]


# --- good files ------------------------------------------------------------------------------------------------------
def arrays(folder: Path) -> dict[str, tuple[Path, object]]:
    """Files of `load_data`."""
    x, y = np.random.default_rng(0).normal(size=(6, 4, 3)).astype(np.float32), np.arange(6) % 2
    np.savez(folder / "a.npz", x=x, y=y)
    np.savez_compressed(folder / "b.npz", x=x, y=y)
    np.save(folder / "c.npy", x)
    torch.save({"x": torch.from_numpy(x), "y": torch.from_numpy(y)}, folder / "d.pt")
    torch.save({"x": torch.from_numpy(x)}, folder / "e.pt", _use_new_zipfile_serialization=False)
    from safetensors.torch import save_file

    save_file({"x": torch.from_numpy(x)}, folder / "f.safetensors")
    names = ["a.npz", "b.npz", "c.npy", "d.pt", "e.pt", "f.safetensors"]
    try:
        import pyarrow as pa
        import pyarrow.parquet as parquet

        parquet.write_table(pa.table({"a": x[:, 0, 0], "b": x[:, 0].tolist(), "label": y}), folder / "g.parquet")
        names.append("g.parquet")
    except ImportError:
        pass
    return {name: (folder / name, load_data) for name in names}


def pictures(folder: Path) -> dict[str, tuple[Path, object]]:
    """Folders of one picture each."""
    try:
        from PIL import Image
    except ImportError:
        return {}
    found = {}
    grey = np.random.default_rng(0).integers(0, 255, (9, 7)).astype(np.uint8)
    kinds = {
        "png": grey,
        "jpg": grey,
        "gif": grey,
        "webp": grey,
        "bmp": grey,
        "tif": grey,
        "tiff": grey.astype(np.float32),
    }
    for suffix, array in kinds.items():
        (folder / suffix).mkdir()
        path = folder / suffix / f"a.{suffix}"
        image = Image.fromarray(array)
        (image.convert("RGB") if suffix in ("jpg", "webp") else image).save(path)
        found[path.name] = path, lambda path: load_data(path.parent)
    (folder / "deep").mkdir()
    Image.fromarray(grey.astype(np.uint16) * 200).save(folder / "deep" / "a.png")
    found["deep.png"] = folder / "deep" / "a.png", lambda path: load_data(path.parent)
    return found


def graphs(folder: Path) -> dict[str, tuple[Path, object]]:
    """Files of graphs and molecules."""
    (folder / "tu").mkdir()
    tables = {
        "A": "1,2\n2,1\n3,4\n", "graph_indicator": "1\n1\n2\n2\n", "graph_labels": "1\n-1\n", "node_labels": "1\n2\n1\n2\n",
        "edge_labels": "1,2\n2,2\n1,1\n", "node_attributes": "0.5,1\n1,2\n2,3\n3,4\n", "graph_attributes": "0.5\n1.5\n",
    }  # fmt: skip
    found = {}
    for kind, text in tables.items():
        path = folder / "tu" / f"SET_{kind}.txt"
        path.write_text(text)
        found[f"tu {kind}"] = path, lambda path: tu_graphs(path.parent)
    (folder / "one.txt").write_text("2\n2 1\n3 1 1 0.5\n4 1 0 1.5\n1 0\n3 0 2\n")
    found["tu file"] = folder / "one.txt", tu_graphs
    some = [nx.gnp_random_graph(n, 0.5, seed=n) for n in (3, 9, 70)]
    (folder / "a.g6").write_bytes(b"".join(nx.to_graph6_bytes(graph) for graph in some))
    (folder / "a.s6").write_bytes(b"".join(nx.to_sparse6_bytes(graph) for graph in some))
    (folder / "a.d6").write_bytes(b"&DI?AO?\n&DI?AO?\n")
    np.save(folder / "a.npy", np.array([nx.to_graph6_bytes(graph) for graph in some]))
    found |= {name: (folder / name, graph6_graphs) for name in ("a.g6", "a.s6", "a.d6", "a.npy")}
    try:
        import rdkit  # noqa: F401 - only whether it is there

        (folder / "a.smi").write_text("CCO\nc1ccccc1\nC[N+](C)(C)CC(=O)[O-]\n")
        found["smiles"] = folder / "a.smi", lambda path: molecular_graphs(path.read_text(errors="replace").split())
    except ImportError:
        pass
    return found


def motion(folder: Path) -> dict[str, tuple[Path, object]]:
    """Files of motion and pictures of clothes."""
    pos = np.random.default_rng(0).normal(size=(5, 3, 3))
    np.savez_compressed(
        folder / "m.npz", parent=np.array([-1, 0, 1]), mirror=np.arange(3), fps=np.array(30.0), walk=pos
    )
    rows = [f"{10 * t} {p} {t * 0.5} {p * 1.5}" for t in range(22) for p in range(3)]
    (folder / "eth.txt").write_text("\n".join(rows) + "\n")
    (folder / "fashion").mkdir()
    x, y = np.zeros((4, 5, 5), np.uint8), np.zeros(4, np.uint8)
    for name, array in (("images-idx3", x), ("labels-idx1", y)):
        head = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
        (folder / "fashion" / f"train-{name}-ubyte.gz").write_bytes(gzip.compress(head + array.tobytes(), mtime=0))
    images = folder / "fashion" / "train-images-idx3-ubyte.gz"
    return {
        "motion": (folder / "m.npz", captured_motion),
        "pedestrians": (folder / "eth.txt", pedestrians),
        "fashion": (images, lambda path: fashion("train", path.parent)),
    }


def own(folder: Path) -> dict[str, tuple[Path, object]]:
    """Files that this library writes, now and in version 0.1.0."""
    x = torch.randn(6, 4, 3, generator=torch.Generator().manual_seed(0))
    net = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
    sym = er.Symmetry("SO(3)", input="points", output="invariant")

    def fit(path: Path) -> None:
        target = torch.zeros(6, 2)
        er.fit(net, x, target, loss=nn.functional.mse_loss, epochs=1, checkpoint=path, progress=False)

    def audit(path: Path) -> None:
        er.audit(net, sym, x, elements=3, resume=path, progress=False)

    def basis(path: Path) -> None:
        clear_memory()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ErlangenWarning)  # a damaged one is computed again
            cached("campaign", 2, lambda: torch.ones(3, 2, dtype=torch.float64))

    fit(folder / "new.pt")
    audit(folder / "new.safetensors")
    shutil.copy(OLD / "checkpoint.pt", folder / "old.pt")
    shutil.copy(OLD / "audit.safetensors", folder / "old.safetensors")
    shutil.copy(OLD / "tinvnn.json", folder / "tinvnn.json")
    entry = json.loads((OLD / "tinvnn.json").read_text())
    (folder / "all.json").write_text(json.dumps([entry | {"scale": "smoke"}]))
    basis(folder)
    [kept] = (folder / "reps").glob("*.safetensors")
    return {
        "checkpoint": (folder / "new.pt", fit),
        "old checkpoint": (folder / "old.pt", fit),
        "resume file": (folder / "new.safetensors", audit),
        "old resume file": (folder / "old.safetensors", audit),
        "basis": (kept, basis),
        "entry": (folder / "tinvnn.json", read_entry),
        "entries": (folder / "all.json", lambda path: list(verify([], file=path, resume=True))),
    }


def names(folder: Path) -> dict[str, tuple[Path, object]]:
    """Texts that name groups, actions and irreps."""

    def named(call: object) -> object:
        return lambda path: call(path.read_bytes().decode("latin-1"))  # type: ignore[operator]

    texts = {
        "group": ("SemidirectProduct(SO(3), translation_scale=2.0) x Symmetric(5)", er.group),
        "groups": ("Shifts(28,28) x C8 x GL+(3, scale=0.1)", er.group),
        "large group": ("Dihedral(16)", er.group),
        "action": ("2*vectors + 2*pseudovectors", lambda text: er.Symmetry("SO(3)", input=text, output="invariant")),
        "irreps": ("8x0e + 4x1o + 2x2e", Irreps),
    }
    for name, (text, _) in texts.items():
        (folder / name).write_text(text)
    return {name: (folder / name, named(call)) for name, (_, call) in texts.items()}


# --- the campaign ----------------------------------------------------------------------------------------------------
def attempt(call: object, path: Path) -> str:
    """What a call gives: "read", "refused", or the name of what must not come."""

    def stop(*_: object) -> None:
        raise Hang

    signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    try:
        call(path)  # type: ignore[operator]
    except ErlangenError:
        return "refused"
    except Hang:
        return "hang"
    except Warning as warning:
        return f"warning {type(warning).__name__}: {str(warning)[:100]}"
    except BaseException as error:  # noqa: BLE001 - what comes is what is looked for
        return f"{type(error).__name__}: {str(error)[:100]}"
    finally:
        signal.alarm(0)
    return "read"


def main(seed: int, count: int) -> dict[str, object]:
    """Mutate every file `count` times."""
    warnings.simplefilter("error")
    torch.set_num_threads(1)
    found: Counter[str] = Counter()
    foreign: list[str] = []
    slow: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as place:
        import os

        os.environ["ERLANGEN_CACHE"] = str(Path(place) / "own")
        for make in (arrays, pictures, graphs, motion, own, names):
            folder = Path(place) / make.__name__
            folder.mkdir()
            for name, (path, call) in make(folder).items():
                good, began = path.read_bytes(), time.perf_counter()
                rng = random.Random(f"{seed} {name}")
                for _ in range(count):
                    path.write_bytes(mutated(good, rng))
                    result = attempt(call, path)
                    if result not in ("read", "refused"):
                        foreign.append(f"{name}: {result}")
                        result = "foreign"
                    found[result] += 1
                path.write_bytes(good)
                slow[name] = round(time.perf_counter() - began, 2)
                # The good file is still read; those of other runs and versions are refused as such.
                if not name.startswith("old") and attempt(call, path) != "read":
                    foreign.append(f"{name}: the good file is not read")
    return dict(found) | {"foreign": foreign, "seconds": slow}


if __name__ == "__main__":
    limit = 6 << 30
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    print(json.dumps(main(int(sys.argv[1]), int(sys.argv[2]))))
