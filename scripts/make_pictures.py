"""Run the demo and renew what README and docs show of it: docs/assets/demo.json, docs/assets/report.png, the tables.

    python scripts/make_pictures.py [--runs FOLDER] [--chromium COMMAND] [--report FILE]

Runs ``erlangen demo`` for the seeds 0, 1 and 2 (or takes the runs that FOLDER/seed-N already hold), photographs the top of
the report of seed 0 in a headless Chromium, light colours, and rewrites the rows of the tables. With ``--report`` only the
picture is made, of that report, after a change of its looks. Needs Pillow and a
Chromium; the tests compare the tables in the pages with demo.json.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
ASSETS = ROOT / "docs" / "assets"
PAGES = (ROOT / "README.md", ROOT / "docs" / "tutorials" / "make_it_exact.md")
SEEDS = (0, 1, 2)
WIDTH = 1240
MARGIN = 24

# The page as it is, but wide enough for four spheres in one row: heading, table and the plots of the orbit.
STYLE = (
    "body, p { max-width: 1200px } body { padding-bottom: 0 } "
    "p:not(.lead), h2 ~ h2, h2 ~ h2 ~ *, details { display: none !important }"
)


def main() -> None:
    """Run, photograph, rewrite."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, help="folder that keeps the runs; by default they are made anew")
    parser.add_argument("--chromium", default="chromium", help="the browser's command")
    parser.add_argument(
        "--report", type=Path, help="report.html of a demo with seed 0, of which only the picture is made"
    )
    options = parser.parse_args()
    if options.report is not None:
        photograph(options.report, ASSETS / "report.png", options.chromium)
        return
    ASSETS.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as fresh:
        folder = options.runs or Path(fresh)
        runs = {str(seed): demo(folder / f"seed-{seed}", seed) for seed in SEEDS}
        photograph(folder / "seed-0" / "report.html", ASSETS / "report.png", options.chromium)
    (ASSETS / "demo.json").write_text(json.dumps(runs, indent=1) + "\n")
    for page in PAGES:
        write_tables(page, runs)


def demo(out: Path, seed: int) -> dict[str, Any]:
    """Numbers of one run, without the settings."""
    if not (out / "demo.json").exists():
        command = [sys.executable, "-m", "erlangen.cli", "demo", "--out", str(out), "--seed", str(seed)]
        subprocess.run(command, check=True)
    numbers = json.loads((out / "demo.json").read_text())
    del numbers["settings"]
    return numbers


def photograph(report: Path, picture: Path, chromium: str) -> None:
    """A picture of the top of a report, cropped to what is drawn."""
    from PIL import Image, ImageChops

    with tempfile.TemporaryDirectory() as folder:
        page, shot = Path(folder) / "page.html", Path(folder) / "shot.png"
        page.write_text(report.read_text().replace("</style>", STYLE + "</style>", 1))
        flags = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            f"--user-data-dir={folder}/profile",
        ]
        subprocess.run(
            [chromium, *flags, f"--window-size={WIDTH},2400", f"--screenshot={shot}", page.as_uri()],
            check=True,
            capture_output=True,
        )
        with Image.open(shot) as image:
            image = image.convert("RGB")
            box = ImageChops.difference(image, Image.new("RGB", image.size, image.getpixel((0, 0)))).getbbox()
            left, top, right, bottom = box or (0, 0, *image.size)
            image = image.crop((left - MARGIN, max(0, top - MARGIN), right + MARGIN, bottom + MARGIN))
            image.save(picture, optimize=True)


def write_tables(page: Path, runs: dict[str, Any]) -> None:
    """Renew the rows of the demo's tables in a page: those over seeds are the ones with a range."""
    lines = page.read_text().split("\n")
    for i, line in enumerate(lines):
        name = line.split(" | ")[0].removeprefix("| ")
        if line.startswith("| ") and name in runs["0"]:
            over_seeds = " to " in line
            rows = [run[name] for run in runs.values()]
            lines[i] = spread_row(name, rows) if over_seeds else demo_row(name, rows[0])
    page.write_text("\n".join(lines))


def demo_row(name: str, row: dict[str, float]) -> str:
    """A line of the table that `erlangen demo` prints, as Markdown."""
    shares = [f"{100 * row[key]:.1f} %" for key in ("upright", "orbit_mean", "worst_sample")]
    return f"| {name} | {' | '.join(shares)} | {row['equivariance_error']:.1e} |"


def spread_row(name: str, rows: list[dict[str, float]]) -> str:
    """The same over seeds: lowest and highest."""
    cells = []
    for key in ("upright", "orbit_mean", "worst_sample"):
        low, high = (f"{100 * end(row[key] for row in rows):.1f}" for end in (min, max))
        cells.append(f"{low} %" if low == high else f"{low} to {high} %")
    errors = [row["equivariance_error"] for row in rows]
    return f"| {name} | {' | '.join(cells)} | {min(errors):.1e} to {max(errors):.1e} |"


if __name__ == "__main__":
    main()
