"""The command line: `erlangen demo`, `audit`, `explore`, and the survey, `erlangen list`, `show`, `claims`, `run` and `verify`.

Exit codes: 0 done; 1 the measured error is above --max-error or --tol, or a claim fails; 2 bad usage, bad input, or a model or a
system that cannot be measured; 3 an optional package is missing (the message names it); 130 interrupted.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from erlangen._interrupts import begin_command
from erlangen.survey.commands import Claims, List, Run, Show, Verify
from erlangen.version import __version__

if TYPE_CHECKING:
    from erlangen.measure import AuditReport
    from erlangen.symmetry import Symmetry

DESCRIPTION = """Measure and enforce symmetry of models, and the claims of published ones.

examples:
  erlangen demo
  erlangen audit model.onnx --group "SO(2)" --input image --output invariant --data images/ --html report.html
  erlangen audit my_package.nets:model --group "SE(3)" --input points --output invariant --data test.npz
  erlangen audit net.py:model --group "Dihedral(4)" --input image --output image --data test.pt --max-error 1e-4
  erlangen audit net.py:model --group "SO(2) within 15 degrees" --input net.py:turn --output invariant --data test.pt
  erlangen explore --demo
  erlangen list
  erlangen verify --all

exit codes: 0 done, 1 error above --max-error or --tol, or a claim that fails, 2 bad usage or input, or a system that cannot run,
3 missing optional package, 130 interrupted. Of several systems the worst, in the order 2, 1, 3, 0.
`--debug` anywhere shows the traceback of an error, `--version` the version.
"""


@dataclass
class Demo:
    """Train a sensor model, turn the watch, make the model exact, write the report (under a minute on 2 cores)."""

    out: Path = Path("erlangen-demo")
    """Folder for report.html and demo.json; created if missing."""
    seed: int = 0
    """Seed of weights, order of samples and augmentation."""

    def run(self) -> int:
        """Run the demo and print its table."""
        from rich.console import Console

        from erlangen.demo import demo_table, run_demo

        console = Console()
        numbers = run_demo(self.out, seed=self.seed)
        console.print(demo_table(numbers))
        report = (self.out / "report.html").resolve()
        console.print(
            "The plain model breaks when the watch turns. Frames make it exactly invariant, but only after training in them "
            "is it accurate as well: compare 'wrapped' with 'exact'.",
            f"\nReport: {report}",
            f"\nNumbers: {(self.out / 'demo.json').resolve()}   ({numbers['settings']['seconds']} s)",
            '\nNext: erlangen audit YOUR_MODEL.py:model --group "SO(3)" --input points --output invariant --data YOUR_DATA.npz',
            sep="",
            highlight=False,
            soft_wrap=True,
        )
        return 0


@dataclass
class Audit:
    """Measure a model on the orbits of its inputs."""

    target: tyro.conf.Positional[str]
    """The model: package.module:name, file.py:name (an object, or a class without arguments), or a file.onnx."""
    group: str
    """The group: "SO(3)", "SE(2)", "Cyclic(8)", "Dihedral(4)", "Symmetric(5)", "Shifts(28,28)", ...; a range of one: "SO(2)
    within 15 degrees", "Translation(2) within 3 pixels"; or yours, file.py:name."""
    input: str
    """How it acts on inputs: points, vectors, image, permuted, "vectors + vectors", ...; or an action of yours, file.py:fn."""
    output: str
    """How it acts on outputs: invariant, vectors, image, ..., or file.py:fn."""
    data: Path
    """Inputs: .npz, .npy, .pt, .safetensors, .parquet or a folder of images; labels are read from it too."""
    labels: Path | None = None
    """A separate file with the labels."""
    metric: str | None = None
    """accuracy, mse, mae, cosine or cross_entropy; by default accuracy for integer labels, mse for others."""
    scale: Literal["norm", "spread"] = "norm"
    """What errors are relative to: the size of each answer, or how much answers vary, which sees past an offset."""
    elements: int | None = None
    """How many group elements; by default all of a small finite group, 72 on a circle, else 256."""
    chunk: int | None = None
    """Elements per model call; by default found by timing."""
    seed: int = 0
    """Seed of sampled elements and of the bootstrap."""
    layers: bool = False
    """Also measure every layer of a torch module."""
    engine: Literal["local", "ray"] = "local"
    """Where to compute: this process, or Ray workers."""
    resume: Path | None = None
    """File that keeps finished work; a stopped audit goes on from it."""
    html: Path | None = None
    """Write the report page here."""
    json: Path | None = None
    """Write the numbers here; "-" prints them instead of the table."""
    fixed: tuple[str, ...] = ()
    """Inputs of a file.onnx that are not in the data: name=number, for example "sr=16000 state=0"."""
    batch_axis: tuple[str, ...] = ()
    """Inputs and outputs of a file.onnx whose batch axis is not the first: name=axis, for example "state=1"."""
    outputs: tuple[str, ...] = ()
    """Which outputs of a file.onnx are answers, by name; by default all."""
    max_error: float | None = None
    """Exit with 1 when the mean equivariance error, or that of one entry of a dict or tuple, is above."""
    tol: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """Exit with 1 when the worst error is above: 1e-3 for all, forces=1e-3 for one entry of an answer; may be repeated."""

    def run(self) -> int:
        """Run the audit, print or write the report."""
        from erlangen.data import load_data
        from erlangen.errors import DataError
        from erlangen.measure import audit
        from erlangen.measure.targets import load_target

        for option, path in (("--html", self.html), ("--json", self.json), ("--resume", self.resume)):
            if path is not None and not path.parent.is_dir():
                raise DataError(f"{option} {str(path)!r}: there is no folder {str(path.parent)!r}; create it first")
        tolerances = _tolerances(self.tol)
        symmetry = _symmetry(self.group, self.input, self.output)
        batch = load_data(self.data, labels=self.labels)
        report = audit(
            load_target(self.target, fixed=self.fixed, batch_axis=self.batch_axis, outputs=self.outputs),
            symmetry,
            batch.x,
            batch.y,
            metric=self.metric,
            scale=self.scale,
            elements=self.elements,
            chunk=self.chunk,
            seed=self.seed,
            layers=self.layers,
            engine=self.engine,
            resume=self.resume,
            name=self.target,
        )
        if self.json == Path("-"):
            print(report.to_json())
        else:
            report.show()
            if self.json is not None:
                report.to_json(self.json)
        if self.html is not None:
            report.to_html(self.html)
        means = [report.error, *(mean for mean, _ in report.entry_errors.values())]
        above = self.max_error is not None and max(means) > self.max_error
        return int(above or _exceeds(report, tolerances))


@dataclass
class Explore:
    """Move samples through the group in the browser, and watch what the model answers."""

    target: tyro.conf.Positional[str | None] = None
    """The model, as for `erlangen audit`."""
    group: str | None = None
    """The group, or a range of one, as for `erlangen audit`."""
    input: str | None = None
    """How it acts on inputs, as for `erlangen audit`."""
    output: str | None = None
    """How it acts on outputs, as for `erlangen audit`."""
    data: Path | None = None
    """Inputs, with labels where there are any, as for `erlangen audit`."""
    compare: str | None = None
    """A second model to show beside the first."""
    labels: Path | None = None
    """A separate file with the labels."""
    classes: str | None = None
    """Names of the classes, separated by commas."""
    metric: str | None = None
    """accuracy, mse, mae, cosine or cross_entropy; by default accuracy for integer labels, mse for others."""
    elements: int | None = None
    """How many group elements the audit visits; by default as for `erlangen audit`."""
    seed: int = 0
    """Seed of sampled elements."""
    demo: bool = False
    """Explore the models of `erlangen demo`; needs no other argument (trains for up to a minute)."""
    host: str = "127.0.0.1"
    """Address to listen on; only this machine can reach the default."""
    port: int = 0
    """Port; 0 takes a free one."""
    allow_remote: bool = False
    """Allow a host that other machines can reach; whoever reaches the page sees the data."""
    show: bool = True
    """Open the browser."""

    def run(self) -> int:
        """Audit, then serve the page until Ctrl-C."""
        from erlangen.explorer import check_address, explore

        check_address(self.host, self.port, allow_remote=self.allow_remote)  # before minutes are spent on training
        reports, classes = self._demo() if self.demo else self._audits()
        explore(
            *reports,
            classes=classes,
            host=self.host,
            port=self.port,
            allow_remote=self.allow_remote,
            show=self.show,
        )
        return 0

    def _demo(self) -> tuple[list[AuditReport], tuple[str, ...]]:
        from erlangen.data import basic_motions
        from erlangen.demo import train_and_audit

        reports = train_and_audit(self.seed)
        return [reports["plain"], reports["exact"]], basic_motions("test").classes

    def _audits(self) -> tuple[list[AuditReport], tuple[str, ...]]:
        from erlangen.data import load_data
        from erlangen.errors import DataError
        from erlangen.measure import audit
        from erlangen.measure.targets import load_target

        given = {"--group": self.group, "--input": self.input, "--output": self.output, "--data": self.data}
        missing = [name for name, value in {"TARGET": self.target, **given}.items() if value is None]
        if missing or self.group is None or self.data is None:
            raise DataError(f"{', '.join(missing)} missing; give them, or explore the demo's models with --demo")
        symmetry = _symmetry(self.group, self.input, self.output)
        batch = load_data(self.data, labels=self.labels)
        targets = [name for name in (self.target, self.compare) if name is not None]
        reports = [
            audit(
                load_target(name),
                symmetry,
                batch.x,
                batch.y,
                metric=self.metric,
                elements=self.elements,
                seed=self.seed,
                name=name,
            )
            for name in targets
        ]
        return reports, tuple(self.classes.split(",")) if self.classes else ()


def _symmetry(group: str, input: str | None, output: str | None) -> Symmetry:  # noqa: A002
    """The symmetry that the options name; files that they name are run."""
    from erlangen.measure.targets import load_action, load_group
    from erlangen.symmetry import Symmetry

    sides = {
        name: None if text is None else load_action(text, name) for name, text in (("input", input), ("output", output))
    }
    return Symmetry(load_group(group), **sides)


def _tolerances(words: Sequence[str]) -> dict[str, float]:
    """Bounds of --tol by entry; "" for all."""
    from erlangen.errors import DataError

    found: dict[str, float] = {}
    for word in words:
        entry, _, number = word.rpartition("=")
        try:
            found[entry] = float(number)
        except ValueError:
            raise DataError(f"--tol {word}: write a number, 1e-3, or entry=number, forces=1e-3") from None
        if not found[entry] >= 0:
            raise DataError(f"--tol {word}: give a number that is not negative")
    return found


def _exceeds(report: AuditReport, tolerances: dict[str, float]) -> bool:
    """Whether a worst error is above its bound; entries without one of their own have that of all."""
    from erlangen.errors import UnknownNameError

    worst = {entry: error for entry, (_, error) in report.entry_errors.items()} or {"": report.worst_error}
    for entry in tolerances:
        if entry and entry not in worst:
            known = ", ".join(report.entry_errors) or "no entries, but one tensor"
            raise UnknownNameError(f"--tol names {entry!r}, but the answer has {known}")
    bounds = {entry: tolerances.get(entry, tolerances.get("", float("inf"))) for entry in worst}
    return any(worst[entry] > bound for entry, bound in bounds.items())


Command = (
    Annotated[Demo, tyro.conf.subcommand("demo")]
    | Annotated[Audit, tyro.conf.subcommand("audit")]
    | Annotated[Explore, tyro.conf.subcommand("explore")]
    | Annotated[List, tyro.conf.subcommand("list")]
    | Annotated[Show, tyro.conf.subcommand("show")]
    | Annotated[Claims, tyro.conf.subcommand("claims")]
    | Annotated[Run, tyro.conf.subcommand("run")]
    | Annotated[Verify, tyro.conf.subcommand("verify")]
)


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point; exits with the codes above."""
    sys.exit(run(list(sys.argv[1:] if argv is None else argv)))


def run(argv: list[str]) -> int:
    """Parse and execute; the exit code."""
    debug = "--debug" in argv
    argv = [word for word in argv if word != "--debug"]
    if argv == ["--version"]:
        print(f"erlangen {__version__}")
        return 0
    command: Demo | Audit | Explore | List | Show | Claims | Run | Verify = tyro.cli(
        Command,  # pyright: ignore[reportArgumentType]
        prog="erlangen",
        description=DESCRIPTION,
        args=argv or ["--help"],
        config=(tyro.conf.OmitSubcommandPrefixes,),
    )
    from erlangen.errors import ErlangenError, MissingExtraError

    try:
        begin_command()
        return command.run()
    except KeyboardInterrupt:
        print("erlangen: interrupted", file=sys.stderr)
        return 130
    except (ErlangenError, OSError) as error:
        if debug:
            raise
        print(f"erlangen: {' '.join(str(error).split())}", file=sys.stderr)
        return 3 if isinstance(error, MissingExtraError) else 2
    except Exception as error:  # the user's model may raise anything
        if debug:
            raise
        text = " ".join(
            [f"{type(error).__name__}: {error};", *getattr(error, "__notes__", []), "(--debug shows where)"]
        )
        print(f"erlangen: {' '.join(text.split())}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
