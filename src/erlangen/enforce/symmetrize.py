"""`symmetrize`: any torch module becomes equivariant, by averaging over frames, one canonical element, or
an orbit.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import MethodType
from typing import Any, Literal

import torch
from torch import Generator, Tensor, nn
from typing_extensions import override

from erlangen.actions import Tree, tree_leaves, tree_map, tree_structure
from erlangen.enforce.calls import (
    Repeat,
    as_module,
    as_wide_as,
    call_signature,
    cast_like,
    check_options,
    default_chunk,
    is_floating,
    named_forward,
    takes_mask,
)
from erlangen.enforce.cloud import has_parts
from erlangen.enforce.direct import DirectRoad
from erlangen.enforce.frames import KINDS, Frame, FrameSet, PointsFrame, check_frames, first_tensor, thin
from erlangen.enforce.nesting import (
    brings_rounding,
    check_order,
    factor_symmetries,
    inside_out,
    refuse_product,
    takes_product,
)
from erlangen.enforce.orbit import OrbitFrame
from erlangen.enforce.padding import zero_padding
from erlangen.enforce.pca_frames import PCAFrame
from erlangen.enforce.sort_frames import NESTED_TOL, SortFrame, is_sortable
from erlangen.enforce.there_and_back import given_by_inverses, linear_part, moved_back
from erlangen.errors import (
    DegenerateFrameError,
    ErlangenWarning,
    GroupError,
    ModelError,
    NotFiniteError,
    OnDegenerate,
    ShapeError,
    SymmetryError,
    first_index,
    is_finite,
    tell_degenerate,
)
from erlangen.groups import MAX_ENUMERATION, SemidirectProduct, Symmetric
from erlangen.numerics import full_precision
from erlangen.symmetry import Symmetry

How = Literal["frames", "canonical", "points", "orbit"]


def symmetrize(
    model: nn.Module | Callable[..., Any] | str | Path,
    symmetry: Symmetry,
    how: How | None = None,
    *,
    samples: int | None = None,
    frame: Frame | None = None,
    on_degenerate: OnDegenerate = "warn",
    differentiable: bool | None = None,
    chunk: int | None = None,
    seed: int = 0,
) -> Symmetrized:
    """Wrap a model so that ``f(g x) = g f(x)`` holds for every input and every element, without training.

    The result averages ``rho_out(g) model(rho_in(g)^-1 x)`` over group elements that the method chooses:

    - ``"frames"``: a few elements that the input determines (Puny et al., ICLR 2022). Exact. Principal axes
      for O, SO, E, SE (2^n or 2^(n-1) elements), Translation, Scaling, Similarity; sorted nodes for
      Symmetric.
    - ``"canonical"``: one element: principal axes, oriented by third moments. Exact, K times cheaper, but
      undefined for point-symmetric inputs.
    - ``"points"``: one element of SO(n) or SE(n) from n chosen points, with ``frame=PointsFrame((i, j,
      k))``. Exact.
    - ``"orbit"``: the whole group if it is finite (exact), or a fixed set of ``samples`` elements of a
      compact group (quasi-uniform where the group has a grid, else from Haar measure): then only
      approximate, and its `Symmetrized.certificate` is "statistical". So it is for pictures under groups that
      interpolate them, such as ``Cyclic(8)``; quarter turns and flips are exact on squares, and refused on
      rectangles that they do not keep.

    A product of groups, such as ``Symmetric(n) x E(3)`` on "permuted * points", is taken apart, and the wrappers nested in
    the order that keeps all symmetries: sorting innermost, principal axes around it, orbits of finite groups outermost.
    Wrapping a symmetrized model by hand works in that order too; the other one is refused. Inside of another frame sorted
    features count as equal within its rounding.

    A model that was not trained this way sees inputs in new positions: expect to train it on.

    >>> import torch, erlangen as er
    >>> sym = er.Symmetry(er.SE(3), input="points", output="invariant")
    >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(15, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2))
    >>> exact = er.symmetrize(model, sym)
    >>> exact(torch.randn(4, 5, 3)).shape
    torch.Size([4, 2])

    Args:
        model: an `nn.Module`, a function of tensors or of numpy arrays, or an ONNX file (its path, or `erlangen.onnx` with
            options). Its first argument is the input, with leading axis B on every tensor; its outputs (a tensor or tree)
            must have that axis too. No gradient flows through numpy functions and ONNX files: asking for one is an error.
        symmetry: group and actions; the output action says how to move predictions back.
        how: the method; by default "frames" where a frame exists, else "orbit" for finite groups.
        samples: with frames, the number of random elements per sample and forward pass in train mode (an
            unbiased estimate); in eval mode the whole frame is used unless it is too large to list, then a
            fixed choice of `samples` elements. With an orbit, see above; for a finite group, the number in
            train mode.
        frame: a frame of your own, see `erlangen.enforce.Frame`, or a `PointsFrame`.
        on_degenerate: what happens to inputs that do not determine their frame, because eigenvalues
            coincide, points lie on one line, or the third moment vanishes (relative gap below the square
            root of the machine epsilon of the input, where half of the digits are lost). "warn":
            `DegenerateFrameWarning`, and `DegenerateFrameError` where there is no frame at all (all points
            coincide); "error": the error for both; "allow": neither. What then holds: the output is finite;
            it is equivariant only up to the choice between equally good frames, except that coincident
            points (the model then sees zeros, or vectors alone) and, under full frames, directions without
            extent stay exact.
        differentiable: let gradients flow through the axes of the frame too. ``None`` does wherever a gradient can reach
            the input, so that derivatives by the input (forces, sensitivities, earlier layers) are those of the output; it
            costs nothing where none can. ``True`` and ``False`` say always and never: ``False`` is cheaper and lets
            gradients flow through the data, the centroid and the size alone, which is no derivative of the output. Where
            eigenvalues nearly coincide, erlangen.numerics keeps the gradient finite.
        chunk: frame elements per call of the model; memory grows with it. ``None`` is all at once on
            accelerators, under `torch.compile` and for models with more parameters than the input has numbers;
            otherwise, on CPUs, as many as keep the input of a call in cache.
        seed: seed of the random choices of `samples`.

    Returns:
        An ordinary module. It trains, saves (its state is the model's under ``model.``), exports and
        compiles.

    Raises:
        SymmetryError: `symmetry` is not a `Symmetry`, or one of a range, which is no group; `how` and `frame` contradict each
            other, or the model is already symmetrized under a group that has to stand around this one.
        GroupError: the method does not exist for the group.
        ActionError: the method cannot read the input action.
        ModelError: `model` is not a module or function.
        OrbitError: `samples` or `chunk` is not positive, missing or has no meaning, or the group is too
            large.
        UnknownNameError: `how` or `on_degenerate` is no known name.
    """
    if not isinstance(symmetry, Symmetry):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise SymmetryError(f"symmetry is a {type(symmetry).__name__}; give er.Symmetry(group, input=..., output=...)")
    if symmetry.within is not None:
        raise SymmetryError(
            f"{symmetry.within.name} is a set of elements and no group: an average over it is not invariant under any of them, "
            f"and what respects all of them exactly respects all that they generate; symmetrize under {symmetry.group.name}, or "
            "train with er.augment(symmetry) and measure with er.audit"
        )
    check_options(how, samples, on_degenerate, chunk)
    if frame is None and takes_product(symmetry, how):
        factors = factor_symmetries(symmetry)
        if factors is not None:
            options = {"on_degenerate": on_degenerate, "differentiable": differentiable, "chunk": chunk, "seed": seed}
            return _symmetrize_product(model, symmetry, factors, how, samples, options)
        if how is not None or symmetry.group.order > MAX_ENUMERATION:
            raise refuse_product(symmetry)
    chosen = how or _default_how(symmetry, frame)
    source = _build_frame(symmetry, chosen, frame, samples, differentiable, seed)
    if isinstance(model, Symmetrized):
        check_order(source, symmetry, model.acting)
    if isinstance(model, nn.Module) and brings_rounding(source, symmetry):
        for part in model.modules():
            if isinstance(part, Symmetrized) and isinstance(part.frame, SortFrame):
                part.frame = replace(part.frame, tol=max(part.frame.tol, NESTED_TOL))
    return Symmetrized(
        as_module(model),
        symmetry,
        source,
        how=chosen,
        samples=samples,
        on_degenerate=on_degenerate,
        chunk=chunk,
        seed=seed,
    )


class Symmetrized(nn.Module):
    """A model averaged over frames; made by `symmetrize`, which documents the options.

    Attributes:
        model: the wrapped model.
        symmetry: what holds.
        acting: the symmetry of this wrapper alone; for a product of groups that of its outermost factor.
        frame: gives the group elements of an input.
        how: the method.

    In train mode BatchNorm in the model takes its statistics over all frame elements of the batch together,
    so a sample's output depends on the batch; a warning says so. Use LayerNorm or GroupNorm, or freeze it
    with ``.eval()``.

    Under `torch.compile` and `torch.export` the checks that look at values (finite input, degenerate
    frames) are left out. `torch.func.vmap` over the wrapper is not supported: it takes a batch already.
    """

    def __init__(
        self,
        model: nn.Module,
        symmetry: Symmetry,
        frame: Frame,
        *,
        how: How,
        samples: int | None,
        on_degenerate: OnDegenerate,
        chunk: int | None,
        seed: int,
    ) -> None:
        super().__init__()
        self.model = model
        self.training = model.training
        self.symmetry = symmetry
        self.acting = symmetry
        self.frame = frame
        self.how: How = how
        self.samples = samples
        self.on_degenerate: OnDegenerate = on_degenerate
        self.chunk = chunk
        self.seed = seed
        self._linear = linear_part(symmetry, frame)
        self._direct = DirectRoad.where_it_leads(symmetry, self._linear, frame)
        self._chunks: dict[tuple[int, ...], int] = {}
        self._generator = Generator().manual_seed(seed)
        self._takes_mask = takes_mask(model)
        kind = nn.modules.batchnorm._BatchNorm  # pyright: ignore[reportPrivateUsage] - torch has no other name for it
        self._has_batch_norm = any(isinstance(m, kind) for m in model.modules())
        self._name_arguments()

    def _name_arguments(self) -> None:
        """Give `forward` of this very module the argument names of the model, which exported programs take over."""
        signature = call_signature(self.model)
        if signature is not None:
            self.__dict__["forward"] = MethodType(named_forward(signature, Symmetrized.forward), self)

    @override
    def __getstate__(self) -> dict[str, Any]:
        state = dict(self.__dict__)
        state.pop("forward", None)
        return state

    @override
    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._name_arguments()

    @property
    def certificate(self) -> Literal["exact", "statistical"]:
        """ "exact" if the average runs over a whole frame or orbit, "statistical" if it is a sample of one.

        Sort frames with ``samples`` count as statistical, because the number of ties is only known with the
        input. So does every average whose elements interpolate the input or the output, such as pictures under
        ``Cyclic(8)``, whole orbit or not: there and back is not the same picture.
        """
        if isinstance(self.model, Symmetrized) and self.model.certificate == "statistical":
            return "statistical"
        if self.acting.input.resamples or self.acting.output.resamples:
            return "statistical"
        if isinstance(self.frame, OrbitFrame) and not self.frame.is_whole:
            return "statistical"
        return "statistical" if self.samples is not None and (self.training or self._is_partial) else "exact"

    @property
    def _is_partial(self) -> bool:
        """Whether the frame may be too large to list."""
        return not getattr(self.frame, "is_enumerable", True)

    def forward(self, x: Tree, *args: Any, mask: Tensor | None = None, **kwargs: Any) -> Tree:
        """Symmetrized prediction for a batch.

        Arguments have the names that the model gives them, and may be passed by these; ``x`` is the first one.

        Args:
            x: the input, as the input action says, with leading axis B on every tensor.
            *args: passed on; tensors with leading axis B are repeated for every frame element.
            mask: ``[B, N]``, boolean (rows that exist) or non-negative weights. It weights centroid and
                covariance, rows of weight zero are set to zero in what the model sees, and the model gets
                it as ``mask=`` (permuted with the nodes under Symmetric).
            **kwargs: as `args`.

        Raises:
            NotFiniteError: x holds NaN or Inf in rows that exist; names the sample.
            ShapeError: shapes do not fit, or there are no points.
            DegenerateFrameError: see ``on_degenerate``.
            ModelError: the model's output has no batch axis, or the model takes no mask.
        """
        if (
            self._direct is not None
            and mask is None
            and not (args or kwargs)
            and self._takes_direct_road(self._direct, x)
        ):
            answer = self._direct.average(self.model, x, self.chunk or self._default_chunk(x, self._direct.count))
            if answer is not None:
                return answer
        batch = self._check_input(x, mask)
        leaf = first_tensor(x)
        with full_precision(leaf):
            frames = self._frames(x, mask)
            frames = self._judge(frames, x)
            elements, centre, local = self._centred(frames, x)
            acting = self.acting if self._linear is None else self._linear
        elements = as_wide_as(elements, local)
        count = elements.shape[1]
        total: Tree = None
        step = self.chunk or self._default_chunk(local, count)
        for first in range(0, count, step):
            part = slice(first, first + step)
            with full_precision(leaf):
                inputs, given = given_by_inverses(acting, elements[:, part], local, mask)
            extra = tree_map(Repeat(batch, elements[:, part].shape[1]), (args, kwargs))
            out = self.model(inputs, *extra[0], **extra[1], **given)
            with full_precision(leaf):
                moved = moved_back(acting, elements[:, part], frames.weights[:, part], out, batch)
            total = moved if total is None else tree_map(torch.add, total, moved)
        if centre is None:
            return total
        return self.acting.output.action.translate(self.acting.group, as_wide_as(centre, total), total)

    def _takes_direct_road(self, road: DirectRoad, x: Tree) -> bool:
        is_whole = not self.training or (self.samples is None and not self._has_batch_norm)
        return is_whole and self.frame is road.frame and road.takes(x)

    # --- steps ----------------------------------------------------------------------------------------------
    def _default_chunk(self, x: Tree, count: int) -> int:
        """`default_chunk`, kept per shape, as counting parameters takes as long as a small layer."""
        if torch.compiler.is_compiling() or not isinstance(x, Tensor) or x.device.type != "cpu":
            return default_chunk(self.model, x, count)
        key = (*x.shape, count)
        if key not in self._chunks:
            self._chunks[key] = default_chunk(self.model, x, count)
        return self._chunks[key]

    def _frames(self, x: Tree, mask: Tensor | None) -> FrameSet:
        options: dict[str, Any] = {} if mask is None else {"mask": mask}
        if self._linear is not None:
            options["split"] = True
        sample = getattr(self.frame, "sample", None)
        if self.samples is None or not (self.training or self._is_partial):
            return check_frames(self.frame(x, **options), (self._linear or self.acting).group, x)
        if sample is None:
            frames = check_frames(self.frame(x, **options), self.acting.group, x)
            return thin(frames, self.samples, self._generator)
        if self.training:
            return sample(x, self.samples, self._generator, **options)
        return sample(x, self.samples, Generator().manual_seed(self.seed), whole=True, **options)

    def _centred(self, frames: FrameSet, x: Tree) -> tuple[Tensor, Tensor | None, Tree]:
        """Split ``g = t h`` into a translation ``[B, n]`` and the rest; move x by t^-1 in float64.

        Far from the origin, moving by g at once would cancel large numbers in the dtype of x.
        """
        group, elements, shift = self.acting.group, frames.elements, frames.centre
        if not isinstance(group, SemidirectProduct):
            return elements, None, x
        if shift is None:
            translation = group.translation(elements)
            shift = translation[:, 0]
            elements = group.join(group.linear(elements), translation - shift[:, None])
        if frames.local is not None and frames.local.shape == x.shape:
            return elements, shift, cast_like(frames.local, x)
        return elements, shift, tree_map(cast_like, self.acting.input.action.translate(group, -shift, x), x)

    # --- checks ---------------------------------------------------------------------------------------------
    def _check_input(self, x: Tree, mask: Tensor | None) -> int:
        leaves = [leaf for leaf in tree_leaves(x) if isinstance(leaf, Tensor)]
        if not leaves or any(not leaf.ndim or leaf.shape[0] != leaves[0].shape[0] for leaf in leaves):
            raise ShapeError(f"x is {tree_structure(x)}; every tensor needs the same leading batch axis")
        batch = leaves[0].shape[0]
        if mask is not None:
            if mask.ndim != 2 or mask.shape[0] != batch:
                raise ShapeError(f"mask has shape {tuple(mask.shape)}, but must be [B, N] with B = {batch}")
            if not self._takes_mask:
                raise ModelError(
                    f"{type(self.model).__name__}.forward has no argument mask; padded rows are set to "
                    "zero, so if the model needs no mask wrap it: symmetrize(lambda x, mask: model(x), ...)"
                )
        if torch.compiler.is_compiling():
            return batch
        if mask is not None and bool((mask < 0).any() if mask.dtype != torch.bool else False):
            raise ShapeError(f"mask is negative at {first_index(mask < 0)}; weights must not be")
        if self._has_batch_norm and self.training:
            warnings.warn(
                "the model has BatchNorm in train mode, whose statistics mix the frame copies of all "
                "samples: outputs depend on the batch; use LayerNorm or GroupNorm, or put the BatchNorm "
                "layers in eval mode",
                ErlangenWarning,
                stacklevel=3,
            )
        seen = x if mask is None else zero_padding(self.acting.input.action, x, mask != 0)
        for leaf in tree_leaves(seen):
            if isinstance(leaf, Tensor) and not is_finite(leaf):
                index = first_index(~torch.isfinite(leaf))
                raise NotFiniteError(
                    f"x: sample {index[0]} of the batch is not finite ({leaf[index].item()} at index "
                    f"{index}); remove or impute such values, or mask rows that do not exist"
                )
        return batch

    def _judge(self, frames: FrameSet, x: Tree) -> FrameSet:
        """Warn or raise for samples that do not determine their frame; in a compiler, mark those with tied nodes by NaN."""
        if self.on_degenerate == "allow":
            return frames
        if torch.compiler.is_compiling():
            if not isinstance(self.frame, SortFrame) or self.frame.ignores_ties:
                return frames
            return frames._replace(weights=torch.where(frames.gap[:, None] == 0, math.nan, frames.weights))
        floats = [leaf.dtype for leaf in tree_leaves(x) if is_floating(leaf)]
        tolerance = max((torch.finfo(dtype).eps for dtype in floats), default=0.0) ** 0.5
        if frames.clear >= tolerance:
            return frames
        close = frames.gap < tolerance
        if not bool(close.any()):
            return frames
        absent = close & (frames.spectrum == 0).all(-1) if frames.spectrum is not None else torch.zeros_like(close)
        if bool(absent.any()):
            raise DegenerateFrameError(
                f"sample {first_index(absent)[0]} of x has no frame: zero covariance, all its points "
                "coincide (or all vectors are zero); remove it, or pass on_degenerate='allow'"
            )
        index = first_index(close)[0]
        values = [] if frames.spectrum is None else [float(f"{v:.4g}") for v in frames.spectrum[index]]
        spectrum = f" of {values}" if values else ""
        message = (
            f"sample {index} of x ({int(close.sum())} of {len(close)} samples) does not determine its "
            f"frame: relative gap{spectrum} is {float(frames.gap[index]):.2g}, below {tolerance:.2g}, so "
            "the output may not be equivariant there; break the tie with further points or vectors, use "
            "how='frames' or 'orbit', or pass on_degenerate='allow'"
        )
        tell_degenerate(message, self.on_degenerate, stacklevel=3)
        return frames

    @override
    def extra_repr(self) -> str:
        return f"{self.symmetry!r}, how={self.how!r}, certificate={self.certificate!r}"


# --- construction -------------------------------------------------------------------------------------------
def _symmetrize_product(
    model: nn.Module | Callable[..., Any] | str | Path,
    symmetry: Symmetry,
    factors: list[Symmetry],
    how: How | None,
    samples: int | None,
    options: dict[str, Any],
) -> Symmetrized:
    """One wrapper for each factor; the outermost one declares the whole."""
    for factor, is_orbit in inside_out(factors):
        one: How | None = "orbit" if is_orbit else how if type(factor.group) in KINDS else None
        count = None if one == "canonical" or (is_orbit and factor.group.order != math.inf) else samples
        model = symmetrize(model, factor, one, samples=count, **options)
    assert isinstance(model, Symmetrized)
    model.symmetry = symmetry
    return model


def _default_how(symmetry: Symmetry, frame: Frame | None) -> How:
    group, action = symmetry.group, symmetry.input.action
    if frame is not None:
        return "points" if isinstance(frame, PointsFrame) else "frames"
    if (type(group) in KINDS and has_parts(action)) or (isinstance(group, Symmetric) and is_sortable(action)):
        return "frames"
    if group.order != math.inf:
        return "orbit"
    raise GroupError(
        f"no exact method for {symmetry!r}: PCA frames need one of {', '.join(k.__name__ for k in KINDS)} "
        "and points or vectors in the input; choose how='orbit' with samples=k for an approximation over a "
        "compact group, or pass frame= with a frame of your own"
    )


def _build_frame(
    symmetry: Symmetry, how: How, frame: Frame | None, samples: int | None, differentiable: bool | None, seed: int
) -> Frame:
    if frame is not None:
        if how not in ("frames", "points"):
            raise SymmetryError(f"how={how!r} builds its own frame; leave out frame=")
        if isinstance(frame, PointsFrame):
            given = frame.differentiable if differentiable is None else differentiable
            return replace(frame, differentiable=given).on(symmetry)
        if not callable(frame):
            raise SymmetryError(f"frame is a {type(frame).__name__}; give a function frame(x) -> FrameSet")
        return frame
    if how == "points":
        raise SymmetryError("how='points' needs to know which: pass frame=PointsFrame((i, j, k))")
    if how == "orbit":
        return OrbitFrame(symmetry.group, samples, seed)
    if isinstance(symmetry.group, Symmetric) and how == "frames":
        return SortFrame(symmetry)
    return PCAFrame(symmetry, canonical=how == "canonical", differentiable=differentiable)
