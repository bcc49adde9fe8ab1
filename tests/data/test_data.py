"""Files in, batches out; untrusted files do no harm."""

import gzip
import struct

import numpy as np
import pytest
import torch

from erlangen.data import basic_motions, digits, fashion, load_data
from erlangen.errors import DataError


def test_basic_motions():
    train, test = basic_motions("train"), basic_motions("test")
    for split in (train, test):
        assert split.x.shape == (40, 100, 6)
        assert split.x.dtype == torch.float32
        assert torch.bincount(split.y).tolist() == [10, 10, 10, 10]
    # First row of the first training recording in the source file, and the calmest activity is standing.
    torch.testing.assert_close(train.x[0, 0, :2], torch.tensor([0.079106, 0.394032]))
    energy = torch.stack([train.x[train.y == label].square().mean() for label in range(4)])
    assert train.classes[int(energy.argmin())] == "standing"


def test_numpy_and_torch_files(tmp_path):
    x, y = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32), np.arange(5)
    np.savez(tmp_path / "a.npz", points=x, labels=y)
    np.savez(tmp_path / "tree.npz", pos=x, vel=-x, y=y)
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", y)
    torch.save({"x": torch.from_numpy(x), "y": torch.from_numpy(y)}, tmp_path / "a.pt")
    torch.save((torch.from_numpy(x), torch.from_numpy(y)), tmp_path / "pair.pt")
    for name in ("a.npz", "a.pt", "pair.pt"):
        batch = load_data(tmp_path / name)
        assert torch.equal(batch.x, torch.from_numpy(x))
        assert torch.equal(batch.y, torch.from_numpy(y))
    tree = load_data(tmp_path / "tree.npz")
    assert set(tree.x) == {"pos", "vel"}
    assert load_data(tmp_path / "x.npy").y is None
    assert torch.equal(load_data(tmp_path / "x.npy", labels=tmp_path / "y.npy").y, torch.from_numpy(y))


def test_safetensors(tmp_path):
    from safetensors.torch import save_file

    save_file({"x": torch.ones(2, 3), "label": torch.tensor([0, 1])}, tmp_path / "a.safetensors")
    assert load_data(tmp_path / "a.safetensors").y.tolist() == [0, 1]


@pytest.mark.extra
def test_parquet(tmp_path):
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pa.table({"a": [1.0, 2.0], "b": [3.0, 4.0], "label": [0, 1]}), tmp_path / "flat.parquet")
    flat = load_data(tmp_path / "flat.parquet")
    assert flat.x.tolist() == [[1.0, 3.0], [2.0, 4.0]]
    assert flat.y.tolist() == [0, 1]
    parquet.write_table(pa.table({"signal": [[1.0, 2.0], [3.0, 4.0]]}), tmp_path / "nested.parquet")
    assert load_data(tmp_path / "nested.parquet").x.shape == (2, 1, 2)
    parquet.write_table(pa.table({"name": ["a", "b"]}), tmp_path / "text.parquet")
    with pytest.raises(DataError, match="'name' does not hold numbers"):
        load_data(tmp_path / "text.parquet")


@pytest.mark.extra
def test_image_folders(tmp_path):
    image = pytest.importorskip("PIL.Image")
    for label, shade in (("cat", 255), ("dog", 0)):
        (tmp_path / label).mkdir()
        for i in range(2):
            image.new("RGB", (6, 4), (shade, 0, 0)).save(tmp_path / label / f"{i}.png")
    batch = load_data(tmp_path)
    assert batch.x.shape == (4, 3, 4, 6)
    assert batch.y.tolist() == [0, 0, 1, 1]
    assert float(batch.x[0, 0].min()) == 1.0
    assert load_data(tmp_path / "cat").y is None
    image.new("L", (3, 3)).save(tmp_path / "cat" / "odd.png")
    with pytest.raises(DataError, match="different size"):
        load_data(tmp_path)
    (tmp_path / "cat" / "odd.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"odd\.png' is not a readable image"):
        load_data(tmp_path)


def test_untrusted_files_run_no_code(tmp_path):
    """Pickles are refused by both readers, and nothing in them runs."""

    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "touched"), "w"))

    torch.save({"x": Evil()}, tmp_path / "evil.pt")
    np.save(tmp_path / "evil.npy", np.array([Evil()], dtype=object), allow_pickle=True)
    for name in ("evil.pt", "evil.npy"):
        with pytest.raises(DataError, match="cannot be read"):
            load_data(tmp_path / name)
    assert not (tmp_path / "touched").exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.npz", None, "there is no such file"),
        ("a.csv", b"1,2", r"unknown kind '\.csv'"),
        ("a.npz", b"garbage", "cannot be read"),
        ("a.pt", b"garbage", "cannot be read"),
        ("a.safetensors", b"garbage", "cannot be read"),
        ("a.npy", b"", "cannot be read"),
    ],
)
def test_unreadable_files(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        load_data(tmp_path / name)


def test_more_bad_files(tmp_path):
    np.savez(tmp_path / "text.npz", names=np.array(["a"]))
    with pytest.raises(DataError, match="'names' is an array of"):
        load_data(tmp_path / "text.npz")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no images"):
        load_data(tmp_path / "empty")
    np.savez(tmp_path / "two.npz", a=np.ones(2), b=np.ones(2))
    np.save(tmp_path / "x.npy", np.ones(2))
    with pytest.raises(DataError, match="one array of labels"):
        load_data(tmp_path / "x.npy", labels=tmp_path / "two.npz")


def test_digits():
    train, test = digits("train"), digits("test")
    assert train.x.shape == (8000, 1, 28, 28)
    assert test.x.shape == (2000, 1, 28, 28)
    for split in (train, test):
        assert split.x.dtype == torch.float32
        assert (split.x.min(), split.x.max()) == (0.0, 1.0)
    # Counts per class of the source package; no image occurs twice, so none is in both splits.
    x, y = torch.cat([train.x, test.x]), torch.cat([train.y, test.y])
    assert torch.bincount(y).tolist() == [1001, 1127, 991, 1032, 980, 863, 1014, 1070, 944, 978]
    assert len({image.numpy().tobytes() for image in x}) == 10000


@pytest.mark.extra
def test_digits_are_not_in_the_official_test_set(shared_data):
    with np.load(shared_data / "mnist_test" / "mnist_test10k.npz") as arrays:
        official = {image.tobytes() for image in arrays["images"]}
    ours = (torch.cat([digits("train").x, digits("test").x]) * 255).round().byte()
    assert not official & {image.numpy().tobytes() for image in ours[:, 0]}


def idx(array: np.ndarray) -> bytes:
    return b"\0\0\x08" + bytes([array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def test_fashion_reads_idx_files(tmp_path):
    x = np.random.default_rng(0).integers(0, 256, (3, 28, 28), dtype=np.uint8)
    for name, array in (("images-idx3", x), ("labels-idx1", np.array([9, 0, 4], dtype=np.uint8))):
        (tmp_path / f"t10k-{name}-ubyte.gz").write_bytes(gzip.compress(idx(array)))
    data = fashion("test", tmp_path)
    assert torch.equal((data.x[:, 0] * 255).round().byte(), torch.from_numpy(x))
    assert [data.classes[i] for i in data.y] == ["ankle boot", "T-shirt", "coat"]


@pytest.mark.parametrize(
    "content",
    [b"", b"no gzip", gzip.compress(b"\0\0\x09\1"), gzip.compress(idx(np.zeros(3, np.uint8))[:-1])],
    ids=["empty", "not compressed", "other type", "cut short"],  # compressed bytes hold the time
)
def test_damaged_idx_files(tmp_path, content):
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(content)
    with pytest.raises(DataError, match="train-images-idx3"):
        fashion("train", tmp_path)


def test_fashion_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match="apt-get install dataset-fashion-mnist"):
        fashion("train", tmp_path / "nowhere")


@pytest.mark.extra
def test_the_real_fashion_set():
    try:
        train, test = fashion("train"), fashion("test")
    except DataError as error:
        pytest.skip(str(error))
    assert train.x.shape == (60_000, 1, 28, 28)
    assert torch.bincount(train.y).tolist() == [6000] * 10
    assert torch.bincount(test.y).tolist() == [1000] * 10
