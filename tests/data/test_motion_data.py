"""Captured people have bones of fixed length; scenes of pedestrians are the windows of a table."""

from pathlib import Path

import numpy as np
import pytest
import torch

from erlangen.data import JOINTS, PARENTS, captured_motion, human_motion, pedestrians
from erlangen.errors import DataError, ErlangenError, UnknownNameError


def test_people_have_bones_of_fixed_length() -> None:
    clips = human_motion()
    assert len(clips) == 15
    assert sum(len(clip.pos) for clip in clips) == 1620
    bones: list[torch.Tensor] = []
    for clip in clips:
        assert clip.pos.dtype == torch.float32
        assert clip.pos.shape[1:] == (len(JOINTS), 3)
        lengths = (clip.pos[:, 1:] - clip.pos[:, list(PARENTS[1:])]).norm(dim=-1)
        assert float(lengths.std(0).max()) < 1.5e-4  # the rounding of positions
        bones.append(lengths.mean(0))
    assert float(torch.stack(bones).std(0).max()) < 1e-4
    left, right = (
        torch.tensor([i - 1 for i, name in enumerate(JOINTS) if name.startswith(side)]) for side in ("left", "right")
    )
    torch.testing.assert_close(bones[0][left], bones[0][right], atol=1e-4, rtol=0)
    # In the package's model, scaled by a quarter: the thigh, from hip to knee, in metres.
    assert float(bones[0][JOINTS.index("left knee") - 1]) == pytest.approx(0.421546, abs=1e-4)


def test_a_walk_goes_forward_upright() -> None:
    (walk,) = human_motion("walk")
    assert walk.dt == pytest.approx(1 / 30, rel=1e-3)
    seconds = walk.dt * (len(walk.pos) - 1)
    travel = walk.pos[-1, 0] - walk.pos[0, 0]
    assert 0.5 < float(travel.norm()) / seconds < 2  # people walk at about 1 m/s
    assert bool((walk.pos[:, JOINTS.index("neck"), 1] > walk.pos[:, JOINTS.index("left hip"), 1] + 0.2).all())
    assert [clip.name for clip in human_motion(("run", "jump"))] == ["run", "jump"]


def test_unknown_clips_are_named() -> None:
    with pytest.raises(UnknownNameError, match="fly"):
        human_motion("fly")


def write(path: Path, rows: list[tuple[float, float, float, float]]) -> Path:
    path.write_text("".join("\t".join(str(value) for value in row) + "\n" for row in rows))
    return path


def place(person: int, frame: int) -> tuple[float, float]:
    return person + 0.5 * frame, -0.25 * person * frame


def crowd(path: Path) -> Path:
    """Pedestrian 3 in frames 0 to 4, pedestrian 7 in frames 1 to 3, pedestrian 9 in frames 0 and 4."""
    spans = {3: range(5), 7: range(1, 4), 9: (0, 4)}
    rows = [(100.0 + 10 * t, float(person), *place(person, t)) for person, span in spans.items() for t in span]
    return write(path / "crowd.txt", sorted(rows, reverse=True))


def test_scenes_are_windows_with_masks(tmp_path: Path) -> None:
    scenes = pedestrians(crowd(tmp_path), frames=3)
    assert scenes.frame.tolist() == [100, 110, 120]
    assert scenes.mask.tolist() == [[True, False], [True, True], [True, False]]
    assert scenes.identity.tolist() == [[3, -1], [3, 7], [3, -1]]
    for scene in range(3):
        for agent, person in enumerate(scenes.identity[scene].tolist()):
            wanted = [place(person, scene + t) if person >= 0 else (0.0, 0.0) for t in range(3)]
            torch.testing.assert_close(scenes.pos[scene, agent], torch.tensor(wanted))
    assert pedestrians(crowd(tmp_path), frames=3, stride=2).frame.tolist() == [100, 120]
    assert pedestrians(crowd(tmp_path), frames=3, least=2).frame.tolist() == [110]
    assert pedestrians(crowd(tmp_path), frames=5).mask.tolist() == [[True]]


def test_bad_files_are_refused(tmp_path: Path) -> None:
    good = crowd(tmp_path)
    with pytest.raises(DataError, match="no 6 frames"):
        pedestrians(good, frames=6)
    with pytest.raises(DataError, match="no multiples of frame_step = 4"):
        pedestrians(good, frames=3, frame_step=4)
    with pytest.raises(ErlangenError, match="frames = 0"):
        pedestrians(good, frames=0)
    with pytest.raises(DataError, match="cannot be read"):
        pedestrians(tmp_path / "missing.txt")
    twice = write(tmp_path / "twice.txt", [(0, 1, 0, 0), (0, 1, 1, 1), (10, 1, 0, 0)])
    with pytest.raises(DataError, match="twice in one frame"):
        pedestrians(twice, frames=2)
    for name, row, message in (
        ("narrow", "0 1 2\n", "frame, identity, x, y"),
        ("words", "0 1 2 x\n", "cannot be read"),
        ("nan", "0 1 2 nan\n", "not finite in row 0"),
        ("half", "0 1.5 2 3\n", "whole numbers"),
    ):
        (tmp_path / name).write_text(row)
        with pytest.raises(DataError, match=message):
            pedestrians(tmp_path / name, frames=1)


def test_the_fields_recordings(shared_data: Path) -> None:
    """Every pedestrian who is there for 20 frames in a row is in a scene, counted from the lines of the file."""
    file = shared_data / "eth_ucy" / "biwi_eth.txt"
    scenes = pedestrians(file)
    lines = [line.split() for line in file.read_text().splitlines()]
    seen = {(round(float(frame)), round(float(person))) for frame, person, _, _ in lines}
    whole = [(f, p) for f, p in seen if all((f + 10 * t, p) in seen for t in range(20))]
    assert scenes.pos.shape == (len({f for f, _ in whole}), 5, 20, 2)
    assert int(scenes.mask.sum()) == len(whole)


def skeleton_file(path: Path, **change: object) -> Path:
    """Two clips of three joints in a chain."""
    arrays = {
        "parent": np.array([-1, 0, 0]),
        "mirror": np.array([0, 2, 1]),
        "fps": np.array(30.0),
        "walk": np.arange(36.0).reshape(4, 3, 3),
        "run": np.zeros((2, 3, 3)),
    }
    np.savez(path / "clips.npz", **{name: value for name, value in (arrays | change).items() if value is not None})
    return path / "clips.npz"


def test_clips_of_a_file(tmp_path: Path) -> None:
    (walk, run), skeleton = captured_motion(skeleton_file(tmp_path))
    assert (walk.name, run.name, walk.dt) == ("walk", "run", pytest.approx(1 / 30))
    assert walk.pos.tolist() == np.arange(36.0).reshape(4, 3, 3).tolist()
    assert walk.pos.dtype == torch.float32
    assert (skeleton.parents.tolist(), skeleton.mirror.tolist()) == ([-1, 0, 0], [0, 2, 1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fps": None}, "has no fps"),
        ({"walk": None, "run": None}, "has no clips"),
        ({"walk": np.zeros((4, 2, 3))}, r"'walk' of .* has shape \(4, 2, 3\)"),
        ({"run": np.full((2, 3, 3), np.nan)}, "a clip is finite"),
        ({"mirror": np.zeros(2)}, "has mirror"),
        ({"fps": np.array(0.0)}, "and a rate"),
        ({"walk": np.array([object()])}, "cannot be read"),
    ],
)
def test_bad_files_of_clips(tmp_path: Path, change: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        captured_motion(skeleton_file(tmp_path, **change))
    (tmp_path / "text.npz").write_text("no archive")
    with pytest.raises(DataError, match="cannot be read"):
        captured_motion(tmp_path / "text.npz")


def test_captured_people(shared_data: Path) -> None:
    """Bones of the CMU clips have one length each, and mirrored bones the same."""
    clips, skeleton = captured_motion(shared_data / "cmu_mocap" / "cmu_mocap_xyz30.npz")
    assert len(clips) == 96
    parents, mirror = skeleton.parents, skeleton.mirror
    assert mirror[mirror].tolist() == list(range(38))
    for clip in clips[::10]:
        bones = (clip.pos[:, 1:] - clip.pos[:, parents[1:]]).norm(dim=-1)
        assert float(bones.std(0).max()) < 1e-4
