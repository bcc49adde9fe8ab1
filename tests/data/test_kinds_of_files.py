"""Depths, orders of bytes and orientations: what files hold, compared with numpy and with Pillow's own writers."""

import struct
import warnings
import zlib

import numpy as np
import pytest
import torch
from torch import nn

import erlangen as er
from erlangen.arrays import tensor_of
from erlangen.data import load_data, size_limit
from erlangen.errors import DataError, DtypeError

PIL = pytest.importorskip("PIL.Image")


@pytest.fixture(autouse=True)
def _no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def folder_of(tmp_path, **pictures):
    for name, (array, options) in pictures.items():
        stem, _, suffix = name.rpartition("_")
        PIL.fromarray(array).save(tmp_path / f"{stem}.{suffix}", **options)
    return load_data(tmp_path).x


# --- pictures --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("suffix", ["png", "tif", "tiff"])
def test_sixteen_bits(tmp_path, suffix):
    array = np.array([[0, 1, 255], [256, 40000, 65535]], dtype=np.uint16)
    x = folder_of(tmp_path, **{f"a_{suffix}": (array, {})})
    assert x.dtype == torch.float32
    torch.testing.assert_close(x[0, 0].double().numpy(), array / 65535, rtol=1e-6, atol=0)


def test_sixteen_bits_of_the_other_order_of_bytes_and_white_for_zero(tmp_path):
    """TIFF files of 16 bits, written by hand: big-endian with 0 for black, little-endian with 0 for white."""
    array = np.array([[0, 513], [40000, 65535]], dtype=np.uint16)
    for name, zero, order, mark in (("black", 1, ">", b"MM\0*"), ("white", 0, "<", b"II*\0")):
        tags = [(256, 2), (257, 2), (258, 16), (259, 1), (262, zero), (273, 150), (277, 1), (278, 2), (279, 8)]
        head = mark + struct.pack(f"{order}IH", 8, len(tags))
        for tag, value in tags:
            head += struct.pack(f"{order}HHIHH", tag, 3, 1, value, 0)
        (tmp_path / f"{name}.tif").write_bytes(
            (head + bytes(4)).ljust(150, b"\0") + array.astype(f"{order}u2").tobytes()
        )
    black, white = load_data(tmp_path).x[:, 0].double().numpy()
    np.testing.assert_allclose(black, array / 65535, rtol=1e-6)
    np.testing.assert_allclose(white, 1 - array / 65535, rtol=0, atol=1e-6)


DEEP = np.random.default_rng(0).integers(0, 65536, (3, 4, 4), dtype=np.uint16)


def png_of_16_bits(array, color, orientation=1):
    """A PNG file by hand, after the standard: pillow writes none of several channels of 16 bits."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", array.shape[1], array.shape[0], 16, color, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in array)
    exif = b"MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 274, 3, 1, orientation, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"eXIf", exif) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def tiff_of_16_bits(array, order, *, packed=False, planar=1, photometric=2):
    """A TIFF file by hand, pixel by pixel or plane by plane."""
    count = array.shape[-1]
    stored = array if planar == 1 else array.transpose(2, 0, 1)
    data = stored.astype(f"{order}u2").tobytes()
    data, planes = zlib.compress(data) if packed else data, 1 if planar == 1 else count
    rows, place = len(array), 400
    tags = {256: [array.shape[1]], 257: [rows], 258: [16] * count, 259: [8 if packed else 1], 262: [photometric]}
    tags |= {273: [place + i * len(data) // planes for i in range(planes)], 277: [count], 278: [rows]}
    tags |= {279: [len(data) // planes] * planes, 284: [planar]}
    if count == 4 and photometric == 2:
        tags[338] = [2]  # the fourth channel is transparency
    head, more = struct.pack(f"{order}2sHIH", b"II" if order == "<" else b"MM", 42, 8, len(tags)), b""
    for tag, values in tags.items():
        text = struct.pack(f"{order}{len(values)}H", *values)
        if len(text) > 4:
            text, more = struct.pack(f"{order}I", 200 + len(more)), more + text
        head += struct.pack(f"{order}HHI", tag, 3, len(values)) + text.ljust(4, b"\0")
    return ((head + bytes(4)).ljust(200, b"\0") + more).ljust(place, b"\0") + data


@pytest.mark.parametrize(("color", "count"), [(0, 1), (2, 3), (4, 2), (6, 4)])
@pytest.mark.parametrize("orientation", [1, 6])
def test_png_of_16_bits_with_several_channels(tmp_path, color, count, orientation):
    (tmp_path / "a.png").write_bytes(png_of_16_bits(DEEP[..., :count], color, orientation))
    wanted = DEEP[..., : 3 if count > 2 else 1] / 65535
    if orientation == 6:
        wanted = np.rot90(wanted, -1)
    np.testing.assert_allclose(load_data(tmp_path).x[0].numpy(), wanted.transpose(2, 0, 1), rtol=1e-6)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("count", [3, 4])
def test_tiff_of_16_bits_with_several_channels(tmp_path, order, packed, count):
    (tmp_path / "a.tif").write_bytes(tiff_of_16_bits(DEEP[..., :count], order, packed=packed))
    wanted = DEEP[..., :3].transpose(2, 0, 1) / 65535
    np.testing.assert_allclose(load_data(tmp_path).x[0].numpy(), wanted, rtol=1e-6)


@pytest.mark.parametrize("options", [{"planar": 2}, {"photometric": 5}])
def test_16_bits_that_pillow_would_halve_are_refused(tmp_path, options):
    """Channels in planes of their own, and cyan, magenta, yellow and black: pillow gives 8 of the bits, some of them wrong."""
    array = DEEP if "photometric" in options else DEEP[..., :3]
    (tmp_path / "a.tif").write_bytes(tiff_of_16_bits(array, "<", **options))
    with pytest.raises(DataError, match=r"a\.tif' holds more than 8 bits for each of several channels"):
        load_data(tmp_path)


def test_inks(tmp_path):
    """Cyan, magenta, yellow and black of 8 bits: what is left of white light behind the ink and the black one."""
    inks = (DEEP % 256).astype(np.uint8)
    PIL.fromarray(inks, mode="CMYK").save(tmp_path / "a.tif")
    light = (1 - inks[..., :3] / 255) * (1 - inks[..., 3:] / 255)
    np.testing.assert_allclose(load_data(tmp_path).x[0].numpy(), light.transpose(2, 0, 1), rtol=0, atol=1.01 / 255)


def test_floating_pictures_keep_their_values(tmp_path):
    array = np.array([[-1.5, 0.25, 1e6], [np.pi, 0, 1]], dtype=np.float32)
    assert np.array_equal(folder_of(tmp_path, a_tiff=(array, {}))[0, 0].numpy(), array)
    with pytest.raises(DataError, match="pictures of floating numbers, whose range is their own, lie beside others"):
        folder_of(tmp_path, b_png=(np.zeros((2, 3), dtype=np.uint8), {}))


def test_integers_without_a_brightest_value_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"a\.tiff' holds 32-bit or signed integers, which have no brightest value"):
        folder_of(tmp_path, a_tiff=(np.array([[1, 70000]], dtype=np.int32), {}))


@pytest.mark.parametrize("suffix", ["gif", "bmp", "webp", "png", "tif", "jpg"])
def test_eight_bits_of_every_format(tmp_path, suffix):
    values = np.repeat(np.repeat(np.arange(16, dtype=np.uint8).reshape(4, 4) * 17, 8, 0), 8, 1)
    options = {"lossless": True} if suffix == "webp" else {"quality": 100} if suffix == "jpg" else {}
    x = folder_of(tmp_path, **{f"a_{suffix}": (values, options)})
    assert np.abs(x[0, 0].numpy() * 255 - values).max() <= (1 if suffix == "jpg" else 1e-4)


def test_one_bit_palettes_and_transparency(tmp_path):
    grey = np.array([[0, 255, 255]], dtype=np.uint8)
    PIL.fromarray(grey).convert("1").save(tmp_path / "a.png")
    PIL.merge("LA", [PIL.fromarray(grey), PIL.fromarray(255 - grey)]).save(tmp_path / "b.png")
    x = load_data(tmp_path).x
    assert x.tolist() == [[[[0, 1, 1]]]] * 2
    colours = np.array([[[255, 0, 0], [0, 51, 0], [0, 0, 102]]], dtype=np.uint8)
    PIL.fromarray(colours).quantize(3).save(tmp_path / "c.png")
    PIL.fromarray(np.concatenate([colours, np.full((1, 3, 1), 7, np.uint8)], -1)).save(tmp_path / "d.png")
    x = load_data(tmp_path).x
    for row in x[2:]:
        np.testing.assert_allclose(row.numpy(), colours.transpose(2, 0, 1) / 255, atol=1e-6)
    for row in x[:2]:  # grey beside colour
        assert row.tolist() == [[[0, 1, 1]]] * 3


def test_depths_beside_each_other_have_one_scale(tmp_path):
    eight, sixteen = np.array([[0, 51, 255]], dtype=np.uint8), np.array([[0, 13107, 65535]], dtype=np.uint16)
    x = folder_of(tmp_path, a_png=(eight, {}), b_png=(sixteen, {}))
    torch.testing.assert_close(x[0], x[1])


UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a),
}
"""What a picture is, from what is stored, by the number of the camera's note (EXIF 2.3, tag 274)."""


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize(
    ("suffix", "dtype"), [("png", np.uint8), ("webp", np.uint8), ("tiff", np.uint16), ("png", np.uint16)]
)
def test_cameras_say_which_side_is_up(tmp_path, suffix, dtype, orientation):
    stored = (np.arange(6).reshape(2, 3) * 40).astype(dtype)
    if suffix == "webp":
        stored = np.repeat(stored[..., None], 3, -1)
    exif = PIL.Exif()
    exif[274] = orientation
    options = {"exif": exif} | ({"lossless": True} if suffix == "webp" else {})
    x = folder_of(tmp_path, **{f"a_{suffix}": (stored, options)})[0]
    wanted = UPRIGHT[orientation](stored).astype(np.float64) / np.iinfo(dtype).max
    np.testing.assert_allclose(
        x.numpy() if x.shape[0] == 3 else x.numpy()[0],
        wanted.transpose(2, 0, 1) if x.shape[0] == 3 else wanted,
        rtol=1e-6,
    )


def test_sizes_are_those_of_upright_pictures(tmp_path):
    exif = PIL.Exif()
    exif[274] = 6
    folder_of(tmp_path, a_png=(np.zeros((2, 3), np.uint8), {"exif": exif}), b_png=(np.zeros((3, 2), np.uint8), {}))
    with pytest.raises(DataError, match=r"different size, a\.png has 3 x 2 pixels and c\.png 2 x 3"):
        folder_of(tmp_path, c_png=(np.zeros((2, 3), np.uint8), {}))


def test_what_lies_beside_pictures(tmp_path):
    """Hidden files and folders are no pictures and no classes; pictures above the classes have none, which is said."""
    for label in ("cat", "dog", ".cache"):
        (tmp_path / label).mkdir()
        PIL.new("L", (2, 2)).save(tmp_path / label / "a.PNG", format="png")
        (tmp_path / label / "._a.png").write_bytes(b"of the file system")
    assert load_data(tmp_path).y.tolist() == [0, 1]
    PIL.new("L", (2, 2)).save(tmp_path / "b.png")
    with pytest.raises(DataError, match=r"images in the folder, such as 'b\.png', and in its subfolders"):
        load_data(tmp_path)
    (tmp_path / "cat" / "a.PNG").unlink()
    (tmp_path / "dog" / "a.PNG").unlink()
    assert load_data(tmp_path).y is None


def test_a_picture_that_claims_to_be_huge(tmp_path):
    """A megabyte of zeros in a PNG header of 40,000 x 40,000: refused before it is decoded, whatever Pillow's limits are."""
    import zlib

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 40000, 40000, 8, 0, 0, 0, 0))
    (tmp_path / "a.png").write_bytes(
        b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(10**6))) + chunk(b"IEND", b"")
    )
    with pytest.raises(DataError, match=r"needs 25,600,000,000 in memory"):
        load_data(tmp_path)
    PIL.new("L", (40, 40)).save(tmp_path / "a.png")
    with size_limit(40 * 40 * 16 - 1), pytest.raises(DataError, match="needs 25,600 in memory"):
        load_data(tmp_path)
    with size_limit(40 * 40 * 16):
        assert load_data(tmp_path).x.shape == (1, 1, 40, 40)


# --- arrays ----------------------------------------------------------------------------------------------------------
KINDS = [">f4", ">f8", "<f2", ">i2", ">i4", ">i8", "longdouble", ">u2", "u4", "u8", "?", "u1", "i1"]


@pytest.mark.parametrize("kind", KINDS)
def test_arrays_of_every_kind(tmp_path, kind):
    array = np.arange(12).reshape(3, 4).astype(kind)
    np.savez(tmp_path / "a.npz", x=array, y=array[:, 0])
    batch = load_data(tmp_path / "a.npz")
    assert batch.x.double().tolist() == array.astype(float).tolist()
    assert batch.x.dtype not in (torch.uint16, torch.uint32, torch.uint64)
    assert batch.y.double().tolist() == array[:, 0].astype(float).tolist()
    if array.dtype.kind == "f":
        assert batch.x.dtype == {2: torch.float16, 4: torch.float32}.get(array.dtype.itemsize, torch.float64)
    np.save(tmp_path / "b.NPY", array)
    (tmp_path / "b.NPY.npy").rename(tmp_path / "b.NPY") if (tmp_path / "b.NPY.npy").exists() else None
    assert torch.equal(load_data(tmp_path / "b.NPY").x, batch.x)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("view", ["reversed", "read-only", "field", "transposed"])
def test_views_of_every_kind(kind, view):
    array = np.arange(6).reshape(2, 3).astype(kind)
    if view == "reversed":
        array = array[::-1, ::-1]
    elif view == "read-only":
        array.flags.writeable = False
    elif view == "field":
        record = np.zeros((2, 3), dtype=[("a", "i1"), ("b", kind)])
        record["b"] = array
        array = record["b"]
    else:
        array = array.T
    assert tensor_of(array).double().tolist() == array.astype(float).tolist()


@pytest.mark.parametrize(("array", "message"), [
    (np.array(["a"]), "array of <U1"), (np.array([1j]), "complex128"), (np.array([None]), "object"),
    (np.array([2**63], dtype=np.uint64), "integers of 2\\^63 or more"), (np.array(["2020"], dtype="M8[D]"), "datetime64"),
])  # fmt: skip
def test_arrays_that_are_no_numbers(array, message):
    with pytest.raises(DtypeError, match=message):
        tensor_of(array)


@pytest.mark.parametrize("kind", [">f4", ">f8", "longdouble", ">f2"])
def test_models_may_answer_in_any_order_of_bytes(kind):
    """The same error as that of the same model in the usual order, and none where there is none."""
    sym = er.Symmetry("SO(3)", input="points", output="invariant")
    x = torch.randn(4, 5, 3, dtype=torch.float64)
    radii = lambda a: np.linalg.norm(np.asarray(a), axis=-1)  # noqa: E731
    answer = lambda a: radii(a).astype(kind)  # noqa: E731
    tolerance = 1e-3 if kind == ">f2" else 1e-6
    assert float(er.equivariance_error(answer, sym, x, elements=8)) < tolerance
    broken = lambda a: np.ascontiguousarray(np.asarray(a)[..., 0]).astype(kind)  # noqa: E731
    usual = lambda a: np.ascontiguousarray(np.asarray(a)[..., 0])  # noqa: E731
    error = float(er.equivariance_error(usual, sym, x, elements=8))
    assert float(er.equivariance_error(broken, sym, x, elements=8)) == pytest.approx(error, rel=5 * tolerance)


def test_tensors_in_unusual_forms(tmp_path):
    path = tmp_path / "a.pt"
    torch.save({"x": torch.arange(6.0).reshape(2, 3).to_sparse(), "y": torch.tensor([1, 2], dtype=torch.uint16)}, path)
    batch = load_data(path)
    assert batch.x.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert batch.y.tolist() == [1, 2]
    torch.save(nn.Parameter(torch.ones(2, 2)), path)
    assert not load_data(path).x.requires_grad
    torch.save(torch.ones(2, dtype=torch.complex64), path)
    with pytest.raises(DataError, match=r"entry 'x' is a tensor of torch\.complex64"):
        load_data(path)
    torch.save(torch.ones(1).expand(1 << 29), path)
    with pytest.raises(DataError, match="needs 2,147,483,648 in memory"):
        load_data(path)


# --- sizes -----------------------------------------------------------------------------------------------------------
def test_a_small_archive_of_much(tmp_path):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, x=np.zeros((1, 40 << 20), dtype=np.uint8))
    assert path.stat().st_size < 10**5
    with size_limit(32 << 20), pytest.raises(DataError, match=r"a\.npz' has .* bytes and needs 41,943,\d+ in memory"):
        load_data(path)
    assert load_data(path).x.shape == (1, 40 << 20)  # below the limit that is declared


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
@pytest.mark.parametrize("shape", [(1 << 40,), (1 << 62, 4), (3, 4, 10**9), (-5,)])
def test_a_header_that_announces_more_than_there_is(tmp_path, suffix, shape):
    """The memory is not even asked for."""
    np.save(tmp_path / "b.npy", np.zeros(4))
    plain = (tmp_path / "b.npy").read_bytes()
    header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}"
    data = plain[:10] + header.ljust(len(plain[10:-32]) - 1).encode() + b"\n" + plain[-32:]
    path = tmp_path / f"a{suffix}"
    path.write_bytes(data)
    if suffix == ".npz":
        import zipfile

        path.unlink()
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("x.npy", data)
    with pytest.raises(DataError, match=r"cannot be read as \.np[yz]: it announces"):
        load_data(path)
