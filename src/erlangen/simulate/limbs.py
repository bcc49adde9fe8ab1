"""Bodies with limbs that MuJoCo moves, in a world whose laws commute with turns about the vertical.

Gravity and the ground leave of all motions those of the plane: turns about the vertical and horizontal shifts. Whether a
simulator keeps them depends on how it treats friction (elliptic cones do, pyramids with fixed edges do not), so the step of a
`LimbedBody` can be audited itself:

>>> import erlangen as er
>>> body = er.simulate.LimbedBody.hopper()  # doctest: +SKIP
>>> state = body.start(8, generator=torch.Generator().manual_seed(0))  # doctest: +SKIP
>>> still = torch.zeros(8, body.controls, dtype=torch.float64)  # doctest: +SKIP
>>> er.equivariance_error(body.step, body.symmetry, (state, still)).max() < 1e-9  # doctest: +SKIP
tensor(True)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor

from erlangen.errors import DataError, ErlangenError, NotFiniteError, ShapeError
from erlangen.groups import SO, Stabilizer, random_rotations
from erlangen.simulate.bodies import load_mujoco
from erlangen.symmetry import Symmetry

State = dict[str, Tensor]
"""Of B bodies, float64: "position" ``[B, 1, 3]`` and "velocity" ``[B, 1, 3]`` of the torso in the world, in metres and metres
per second; "axes" ``[B, 3, 3]``, whose rows are the torso's x, y and z axis in the world; "spin" ``[B, 3]``, its angular
velocity in these axes; "angles" and "rates" ``[B, hinges]`` of the hinges, in radians and radians per second."""

ACTIONS = {
    "position": "points",
    "velocity": "vectors",
    "axes": "vectors",
    "spin": "invariant",
    "angles": "invariant",
    "rates": "invariant",
}
"""How turns about the vertical move a state."""


@dataclass(frozen=True)
class Limb:
    """A capsule on three hinges.

    Attributes:
        kind: such as "thigh".
        parent: index of the limb that it hangs on; 0 is the torso.
        start: where its joint sits in the axes of the parent, in metres.
        end: the other end of the capsule, in its own axes.
        radius: of the capsule.
        ranges: of the hinges about its x, y and z axis, in degrees.
        friction: of its surface, the sliding coefficient.
    """

    kind: str
    parent: int
    start: tuple[float, float, float]
    end: tuple[float, float, float]
    radius: float = 0.05
    ranges: tuple[tuple[float, float], ...] = ((-10, 10), (-150, 0), (-10, 10))
    friction: float = 0.9


class LimbFrames(NamedTuple):
    """Where the limbs are and how they move, in the world, float64; the torso is the first.

    Attributes:
        positions, velocities, spins: ``[B, limbs, 3]``, of the joints; spins are angular velocities.
        hinges: ``[B, limbs, 3, 3]``, whose rows are the axes of the three hinges; zero for the torso.
    """

    positions: Tensor
    velocities: Tensor
    spins: Tensor
    hinges: Tensor


class LimbedBody:
    """A torso that moves freely, with limbs on motors.

    Args:
        limbs: beside the torso, each after its parent.
        torso: length of the upright capsule of the torso, in metres.
        gear: largest torque of a motor, in newton metres.
        seconds: of a small step of the integrator.
        repeats: small steps per `step`.

    Attributes:
        kinds: of the limbs, "torso" first.
        parents: of the limbs, -1 for the torso.
        controls: number of motors, three for each limb but the torso.
        limits: ``[controls, 2]`` in radians.
        height: of the torso when the body stands, in metres.
        symmetry: turns about the vertical on the state and the control of a step, and on the state after it.

    Raises:
        MissingExtraError: mujoco is not installed.
        ErlangenError: a limb whose parent does not come before it, or a size that is not positive.
    """

    def __init__(
        self,
        limbs: Sequence[Limb],
        *,
        torso: float = 0.4,
        gear: float = 200.0,
        seconds: float = 0.002,
        repeats: int = 4,
    ) -> None:
        if not (torso > 0 and gear > 0 and seconds > 0 and repeats > 0):
            raise ErlangenError(
                f"torso = {torso}, gear = {gear}, seconds = {seconds}, repeats = {repeats}; all are positive"
            )
        for i, limb in enumerate(limbs, 1):
            if not 0 <= limb.parent < i or not limb.radius > 0 or len(limb.ranges) != 3:
                raise ErlangenError(
                    f"limbs[{i - 1}] = {limb}: its parent comes before it, its radius is positive, its ranges three"
                )
        self.limbs, self.torso, self.gear = tuple(limbs), torso, gear
        self.seconds, self.repeats = seconds, repeats
        self.kinds = ("torso", *(limb.kind for limb in limbs))
        self.parents = (-1, *(limb.parent for limb in limbs))
        self.controls = 3 * len(limbs)
        self.limits = (
            torch.tensor([r for limb in limbs for r in limb.ranges], dtype=torch.float64).deg2rad().reshape(-1, 2)
        )
        self._mujoco = load_mujoco("bodies with limbs")
        self._model: Any = self._mujoco.MjModel.from_xml_string(self._text())
        self._data: Any = self._mujoco.MjData(self._model)
        names = [self._model.body(b).name for b in range(self._model.nbody)]
        self._body = [names.index(str(i)) for i in range(len(self.kinds))]
        joint = [self._model.joint(f"{i}{axis}") for i in range(1, len(self.kinds)) for axis in "xyz"]
        self._angle = [int(j.qposadr[0]) for j in joint]
        self._rate = [int(j.dofadr[0]) for j in joint]
        self.height = self._standing()
        vertical = Stabilizer(SO(3), [0.0, 0.0, 1.0])
        self.symmetry = Symmetry(vertical, input=(ACTIONS, "invariant"), output=ACTIONS)

    @classmethod
    def hopper(cls, segments: int = 4, **options: Any) -> LimbedBody:
        """One leg of up to four segments: thigh, shin, lower shin, foot; see `LimbedBody` for the options.

        Raises:
            ErlangenError: fewer than 1 or more than 4 segments.
        """
        if not 1 <= segments <= 4:
            raise ErlangenError(f"segments = {segments}; a leg has 1 to 4")
        kinds, lengths = ("thigh", "shin", "shin", "foot"), (0.45, 0.5, 0.5, 0.39)
        chosen = [*range(segments - 1), 3] if segments > 1 else [0]
        return cls(_leg(0.0, tuple(kinds[k] for k in chosen), tuple(lengths[k] for k in chosen), first=0), **options)

    @classmethod
    def walker(cls, **options: Any) -> LimbedBody:
        """Two legs of thigh, shin and foot; see `LimbedBody` for the options."""
        left, right = (
            _leg(side, ("thigh", "shin", "foot"), (0.45, 0.5, 0.2), first=k) for side, k in ((0.1, 0), (-0.1, 3))
        )
        return cls([*left, *right], **options)

    def start(self, count: int, noise: float = 0.005, *, generator: Generator | None = None) -> State:
        """States of bodies that stand upright at the origin, with uniform headings and a little noise.

        Args:
            count: B.
            noise: bound of what is added to places, angles and velocities.
            generator: of headings and noise.

        Raises:
            ErlangenError: `count` or `noise` is negative.
        """
        if count < 0 or noise < 0:
            raise ErlangenError(f"count = {count}, noise = {noise}; both are not negative")

        def small(*shape: int) -> Tensor:
            return noise * (2 * torch.rand(count, *shape, generator=generator, dtype=torch.float64) - 1)

        yaw = random_rotations(2, (count,), generator)
        axes = torch.eye(3, dtype=torch.float64).repeat(count, 1, 1)
        axes[:, :2, :2] = yaw.mT  # rows
        stand = torch.tensor([0.0, 0.0, self.height], dtype=torch.float64)
        low, high = self.limits.unbind(-1)
        angles = torch.zeros_like(low).clamp(low, high) + small(self.controls)
        return {
            "position": stand + small(1, 3),
            "velocity": small(1, 3),
            "axes": axes,
            "spin": small(3),
            "angles": angles,
            "rates": small(self.controls),
        }

    def step(self, state: State, control: Tensor) -> State:
        """The states after `repeats` small steps.

        Args:
            state: see `State`; of any floating dtype, the result is float64.
            control: of the motors ``[B, controls]``, cut to [-1, 1].

        Raises:
            ShapeError: a state or a control of another form.
            DataError: axes that are no rotation.
            NotFiniteError: the state of a body is not finite, before or after.
        """
        count = self._check(state)
        if control.shape != (count, self.controls):
            raise ShapeError(f"control has shape {tuple(control.shape)}; give [{count}, {self.controls}]")
        rows: list[State] = []
        for i in range(count):
            self._write(state, i)
            self._data.ctrl[:] = control[i].detach().double().clamp(-1, 1).numpy()
            for _ in range(self.repeats):
                self._mujoco.mj_step(self._model, self._data)
            # MuJoCo puts a body that it lost back to where it started, with a warning of its own.
            kinds = self._mujoco.mjtWarning
            if any(
                self._data.warning[int(kind)].number
                for kind in (kinds.mjWARN_BADQPOS, kinds.mjWARN_BADQVEL, kinds.mjWARN_BADQACC)
            ):
                raise NotFiniteError(f"body {i}: MuJoCo has lost it; use smaller steps or controls")
            rows.append(self._read())
        after = {name: torch.stack([row[name] for row in rows]) if rows else state[name].double() for name in ACTIONS}
        for name, value in after.items():
            if not bool(value.isfinite().all()):
                raise NotFiniteError(
                    f"{name} is not finite after the step: MuJoCo has lost a body; use smaller steps or controls"
                )
        return after

    def frames(self, state: State) -> LimbFrames:
        """Joints, velocities and hinges of all limbs in the world.

        Raises:
            ShapeError, DataError, NotFiniteError: a state of another form.
        """
        count, n = self._check(state), len(self.kinds)
        pos, vel, spin = (torch.zeros(count, n, 3, dtype=torch.float64) for _ in range(3))
        hinges = torch.zeros(count, n, 3, 3, dtype=torch.float64)
        twist = torch.zeros(6, dtype=torch.float64).numpy()
        for i in range(count):
            self._write(state, i)
            self._mujoco.mj_forward(self._model, self._data)
            for k, body in enumerate(self._body):
                pos[i, k] = torch.from_numpy(self._data.xpos[body].copy())
                self._mujoco.mj_objectVelocity(self._model, self._data, self._mujoco.mjtObj.mjOBJ_XBODY, body, twist, 0)
                spin[i, k], vel[i, k] = torch.from_numpy(twist.copy()).split(3)
                if k:
                    first = int(self._model.body(body).jntadr[0])
                    hinges[i, k] = torch.from_numpy(self._data.xaxis[first : first + 3].copy())
        return LimbFrames(pos, vel, spin, hinges)

    # --- MuJoCo ------------------------------------------------------------------------------------------------------
    def _text(self) -> str:
        """The model in MuJoCo's language."""

        def limb(i: int) -> str:
            me = self.limbs[i - 1]
            hinges = "".join(
                f'<joint name="{i}{name}" axis="{axis}" range="{low} {high}"/>'
                for (low, high), name, axis in zip(me.ranges, "xyz", ("1 0 0", "0 1 0", "0 0 1"), strict=True)
            )
            capsule = f'<geom fromto="0 0 0 {_row(me.end)}" size="{me.radius}" friction="{me.friction} 0.1 0.1"/>'
            return f'<body name="{i}" pos="{_row(me.start)}">{hinges}{capsule}{below(i)}</body>'

        def below(i: int) -> str:
            return "".join(limb(k) for k, p in enumerate(self.parents) if p == i)

        motors = "".join(
            f'<motor joint="{i}{axis}" gear="{self.gear}"/>' for i in range(1, len(self.kinds)) for axis in "xyz"
        )
        trunk = f'<geom fromto="0 0 0 0 0 {self.torso}" size="0.07" friction="0.9 0.1 0.1"/>'
        return f"""<mujoco><compiler angle="degree"/>
<option integrator="RK4" timestep="{self.seconds}" cone="elliptic"/>
<default><joint type="hinge" limited="true" armature="1" damping="1"/>
<geom type="capsule" condim="3" density="1000" contype="1" conaffinity="0"/>
<motor ctrllimited="true" ctrlrange="-1 1"/></default>
<worldbody><geom type="plane" size="0 0 1" contype="0" conaffinity="1" friction="0.9 0.1 0.1"/>
<body name="0"><freejoint/>{trunk}{below(0)}</body></worldbody>
<actuator>{motors}</actuator></mujoco>"""

    def _standing(self) -> float:
        """Height at which the lowest capsule touches the ground."""
        self._mujoco.mj_resetData(self._model, self._data)
        self._data.qpos[self._angle] = torch.zeros(self.controls).double().clamp(*self.limits.unbind(-1)).numpy()
        self._mujoco.mj_kinematics(self._model, self._data)
        lowest = 0.0
        for g in range(1, self._model.ngeom):
            radius, half = self._model.geom_size[g][:2]
            lowest = min(lowest, self._data.geom_xpos[g][2] - half * abs(self._data.geom_xmat[g][8]) - radius)
        return -float(lowest)

    def _write(self, state: State, i: int) -> None:
        row = {name: value[i].detach().double() for name, value in state.items()}
        self._mujoco.mj_resetData(self._model, self._data)
        quaternion = torch.zeros(4, dtype=torch.float64).numpy()
        self._mujoco.mju_mat2Quat(quaternion, row["axes"].mT.flatten().numpy())
        self._data.qpos[:3], self._data.qpos[3:7] = row["position"][0].numpy(), quaternion
        self._data.qvel[:3], self._data.qvel[3:6] = row["velocity"][0].numpy(), row["spin"].numpy()
        self._data.qpos[self._angle], self._data.qvel[self._rate] = row["angles"].numpy(), row["rates"].numpy()

    def _read(self) -> State:
        matrix = torch.zeros(9, dtype=torch.float64).numpy()
        self._mujoco.mju_quat2Mat(matrix, self._data.qpos[3:7])
        qpos, qvel = (torch.from_numpy(v.copy()) for v in (self._data.qpos, self._data.qvel))
        return {
            "position": qpos[None, :3],
            "velocity": qvel[None, :3],
            "axes": torch.from_numpy(matrix).view(3, 3).mT,
            "spin": qvel[3:6],
            "angles": qpos[self._angle],
            "rates": qvel[self._rate],
        }

    def _check(self, state: State) -> int:
        shapes = {"position": (1, 3), "velocity": (1, 3), "axes": (3, 3), "spin": (3,)}
        shapes |= dict.fromkeys(("angles", "rates"), (self.controls,))
        if set(state) != set(shapes):
            raise ShapeError(f"state has the entries {sorted(state)}; give {sorted(shapes)}")
        count = len(state["position"])
        for name, shape in shapes.items():
            if state[name].shape != (count, *shape):
                raise ShapeError(f"state[{name!r}] has shape {tuple(state[name].shape)}; give {[count, *shape]}")
            if not bool(state[name].isfinite().all()):
                raise NotFiniteError(f"state[{name!r}] has NaN or Inf")
        axes = state["axes"].double()
        off = (axes @ axes.mT - torch.eye(3, dtype=torch.float64)).abs().amax((-2, -1)) if count else torch.zeros(0)
        if bool((off > 1e-4).any()) or bool((torch.linalg.det(axes) < 0).any()):
            raise DataError("state['axes'] has rows that are no right-handed orthonormal axes")
        return count


def _leg(side: float, kinds: tuple[str, ...], lengths: tuple[float, ...], *, first: int) -> list[Limb]:
    """Segments one below the other, the last one, a foot, forwards; `first` counts the limbs before."""
    limbs: list[Limb] = []
    for k, (kind, length) in enumerate(zip(kinds, lengths, strict=True)):
        foot = kind == "foot"
        limbs.append(
            Limb(
                kind,
                parent=first + k if k else 0,
                start=(0.0, side, 0.0) if k == 0 else (0.0, 0.0, -lengths[k - 1]),
                end=(length, 0.0, 0.0) if foot else (0.0, 0.0, -length),
                ranges=((-10, 10), (-45, 45), (-10, 10)) if foot else ((-10, 10), (-150, 0), (-10, 10)),
                friction=2.0 if foot else 0.9,
            )
        )
    return limbs


def _row(numbers: Sequence[float]) -> str:
    return " ".join(map(str, numbers))
