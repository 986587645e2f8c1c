"""What bringing data in costs: manifest and validate against a bare decode loop.

``python -m tests.bench.data_in FOLDER --images 5000`` makes that many real crops (of photos
in scikit-learn and foolbox and of the demo's cells, 200 to 500 px, JPEG of quality 70 to
95) once, puts them into a project below FOLDER, and measures in processes of their own:

- the bare loop: each file read and decoded to RGB, over all cores, nothing kept; with
  simplejpeg and with Pillow, and the faster counts;
- the stages ``manifest`` and ``validate``, with an empty cache of measures;
- the same after 1 % of images was added.

All is done in rounds, since a machine's speed changes: ratios are of one round each, and
their median and range are given. Times are of the work alone: starting Python and importing
libraries is stated beside them. Files are in the operating system's cache for all alike.
"""

import argparse
import contextlib
import io
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

ROOT = Path(__file__).parents[2]
N_CLASSES = 50
STAGES = ("manifest", "validate")


def photos() -> list[Image.Image]:
    """What crops are taken of."""
    import elpv_dataset
    import foolbox
    from sklearn.datasets import load_sample_images

    found = [Image.fromarray(pixels) for pixels in load_sample_images().images]
    photographs = sorted(Path(foolbox.__file__).parent.rglob("imagenet_*.jpg"))
    cells = sorted((Path(elpv_dataset.__file__).parent / "data" / "images").glob("*.png"))
    found += [Image.open(file).convert("RGB") for file in photographs]
    return found + [Image.open(file).convert("L") for file in cells[::40]]


def crops(start: int, end: int) -> Iterator[bytes]:
    """The files of these numbers, each drawn from its number."""
    sources = photos()
    for number in range(start, end):
        generator = np.random.default_rng([0, number])
        source = sources[int(generator.integers(len(sources)))]
        sides = generator.integers(200, 501, 2)
        width, height = min(source.width, int(sides[0])), min(source.height, int(sides[1]))
        left = int(generator.integers(source.width - width + 1))
        top = int(generator.integers(source.height - height + 1))
        file = io.BytesIO()
        crop = source.crop((left, top, left + width, top + height))
        quality = int(generator.integers(70, 96))
        crop.save(file, "JPEG", quality=quality, comment=str(number))  # no two files are equal
        yield file.getvalue()


def path_of(number: int) -> str:
    """Where in ``data/raw`` an image is: a class folder, a thousand images each."""
    return f"images/class{number % N_CLASSES:02d}/{number:07d}.jpg"


def make_corpus(corpus: Path, n_images: int) -> None:
    """The files up to a number, where they are not there yet."""
    there = sum(1 for _ in corpus.glob("*/*/*.jpg"))
    for number, content in enumerate(crops(there, n_images), there):
        path = corpus / path_of(number)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    print(f"{n_images:,} images, {n_images - min(there, n_images):,} of them made", flush=True)


def make_project(root: Path, corpus: Path, *, batches: Sequence[int]) -> None:
    """A project with as many images of the corpus in each batch; every image its own group."""
    from fgpipe.images.groups_file import GROUPS_NAME, GroupRow, groups_text
    from fgpipe.images.labels_file import LABELS_NAME, LabelledImage, labels_text
    from fgpipe.intake.profiling import write_expectations
    from fgpipe.records import file_sha256

    raw = root / "data" / "raw"
    labelled, rows = [], []
    batch_of = [batch for batch, n_images in enumerate(batches, 1) for _ in range(n_images)]
    for number, batch in enumerate(batch_of):
        path = path_of(number)
        (raw / path).parent.mkdir(parents=True, exist_ok=True)
        if not (raw / path).exists():
            os.link(corpus / path, raw / path)
        label = Path(path).parent.name
        sha256 = file_sha256(raw / path)
        labelled.append(
            LabelledImage(path=path, label=label, parent=None, group=None, attributes={})
        )
        rows.append(
            GroupRow(sha256=sha256, group=sha256, batch=batch, stratum=label, status="active")
        )
    (raw / LABELS_NAME).write_text(labels_text(labelled))
    (raw / GROUPS_NAME).write_text(groups_text(sorted(rows, key=lambda row: row.sha256)))
    (root / "data" / "baseline.json").write_text("null\n")
    shutil.copy(ROOT / "params.yaml", root)
    write_expectations(root / "data" / "expectations.yaml", table=None, force=True)


def bare_loop(root: Path, decoder: str) -> None:
    """Decode every image, over all cores."""
    import simplejpeg

    def with_simplejpeg(path: Path) -> None:
        simplejpeg.decode_jpeg(path.read_bytes())

    def with_pillow(path: Path) -> None:
        Image.open(io.BytesIO(path.read_bytes())).convert("RGB")

    decode = {"simplejpeg": with_simplejpeg, "Pillow": with_pillow}[decoder]

    def some(paths: Sequence[Path]) -> None:
        for path in paths:
            decode(path)

    paths = sorted((root / "data" / "raw").glob("images/*/*.jpg"))

    def loop() -> None:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(some, [paths[i : i + 32] for i in range(0, len(paths), 32)]))

    report(timed(loop, "loop"))


def run_stages(root: Path) -> None:
    """The stages as ``python -m fgpipe NAME`` runs them, but for the tracker."""
    from dataclasses import replace

    start = time.monotonic()
    import great_expectations  # noqa: F401 - counted as an import

    import fgpipe.stages.manifest
    import fgpipe.stages.validate  # noqa: F401 - counted as an import
    from fgpipe.adapters.gx_checks import GxChecker
    from fgpipe.pipeline import run_stage
    from tests.support.ports import fake_ports

    figures = {"imports": time.monotonic() - start}
    ports = replace(fake_ports(root), checker=GxChecker())
    sizes: list[float] = []
    threading.Thread(target=watch_memory, args=(sizes,), daemon=True).start()
    for stage in STAGES:
        figures |= timed(lambda stage=stage: run_stage(stage, root=root, ports=ports), stage)
        figures[f"{stage}_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    figures["all_mib"] = max(sizes)
    report(figures)


def watch_memory(sizes: list[float]) -> None:
    """Note the memory of this process and of those it started, ten times a second."""
    this = psutil.Process()
    while True:
        size = this.memory_info().rss
        for child in this.children(recursive=True):
            with contextlib.suppress(psutil.Error):
                size += child.memory_info().rss
        sizes.append(size / 2**20)
        time.sleep(0.1)


def timed(work: Callable[[], object], name: str) -> dict[str, float]:
    """Seconds that it takes, and seconds of computing, its child processes' too."""
    start, computed = time.monotonic(), _computed()
    work()
    return {name: time.monotonic() - start, f"{name}_cpu": _computed() - computed}


def _computed() -> float:
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(each.ru_utime + each.ru_stime for each in used)


def report(figures: dict[str, float]) -> None:
    """Hand figures to the process that started this one."""
    print(json.dumps(figures))


def in_a_process(*arguments: str) -> dict[str, float]:
    """The figures that a process of this module reports."""
    command = [sys.executable, "-m", "tests.bench.data_in", *arguments]
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def n_measured(root: Path) -> int:
    """Contents whose measures are kept: one more for each that was decoded."""
    import pyarrow.parquet as pq

    from fgpipe.images.measure_cache import version

    files = (root / ".fgpipe" / "measures" / version()).glob("*.parquet")
    return sum(pq.read_metadata(file).num_rows for file in files)


def fastest_loop(root: Path) -> dict[str, float]:
    """What the bare loop takes with the faster decoder."""
    each = [in_a_process("loop", str(root), "--decoder", name) for name in ("simplejpeg", "Pillow")]
    return min(each, key=lambda figures: figures["loop"])


def measure(folder: Path, n_images: int, *, n_rounds: int) -> None:
    """Print the table of one size."""
    n_new = n_images // 100
    make_corpus(folder / "corpus", n_images + n_new)
    root = folder / f"project-{n_images}"
    measures = root / ".fgpipe" / "measures"
    shutil.rmtree(root, ignore_errors=True)
    make_project(root, folder / "corpus", batches=[n_images])
    rounds = []
    for _ in range(n_rounds):
        shutil.rmtree(measures, ignore_errors=True)
        rounds.append({**fastest_loop(root), **in_a_process("stages", str(root))})
    first = n_measured(root)
    kept = shutil.copytree(measures, folder / f"measures-{n_images}", dirs_exist_ok=True)
    make_project(root, folder / "corpus", batches=[n_images, n_new])
    later = []
    for _ in range(n_rounds):
        shutil.rmtree(measures)
        shutil.copytree(kept, measures)
        later.append(in_a_process("stages", str(root)))
    shutil.rmtree(kept)

    full, more = median(rounds), median(later)
    seconds = [each["manifest"] + each["validate"] for each in rounds]
    ratios = [each["loop"] / s for each, s in zip(rounds, seconds, strict=True)]
    of_cpu = [each["loop_cpu"] / (each["manifest_cpu"] + each["validate_cpu"]) for each in rounds]
    again = [each["manifest"] + each["validate"] for each in later]
    shares = [a / s for a, s in zip(again, seconds, strict=True)]
    rows = [
        ("images, cores, rounds", f"{n_images:,}, {os.cpu_count()}, {n_rounds}"),
        ("bare decode loop", _both(full, "loop", n_images)),
        *((stage, _both(full, stage, n_images)) for stage in STAGES),
        ("speed relative to the loop", f"{_spread(ratios)} (of computing {_spread(of_cpu)})"),
        ("imports, not counted above", f"{full['imports']:.2f} s"),
        (
            "peak memory",
            f"{full['validate_mib']:.0f} MiB; {full['all_mib']:.0f} MiB with its processes",
        ),
        (f"with {n_new:,} more", f"{_spread(again)} s, {_spread(shares)} of the full time"),
        *((f"{stage} then", _both(more, stage, n_images + n_new)) for stage in STAGES),
        ("decoded then", f"{n_measured(root) - first:,} (at first {first:,})"),
    ]
    for what, figure in rows:
        print(f"{what:32}{figure}", flush=True)


def median(rounds: Sequence[dict[str, float]]) -> dict[str, float]:
    """The median of each figure."""
    return {name: statistics.median(each[name] for each in rounds) for name in rounds[0]}


def _spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def _both(figures: dict[str, float], name: str, n_images: int) -> str:
    seconds = figures[name]
    return f"{seconds:.2f} s, {figures[f'{name}_cpu']:.2f} computing, {n_images / seconds:,.0f}/s"


def main() -> None:
    """Measure, or be one of the processes that are measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    if len(sys.argv) > 1 and sys.argv[1] in {"loop", "stages"}:
        parser.add_argument("what")
        parser.add_argument("root", type=Path)
        parser.add_argument("--decoder", default="simplejpeg")
        arguments = parser.parse_args()
        if arguments.what == "loop":
            bare_loop(arguments.root, arguments.decoder)
        else:
            run_stages(arguments.root)
        return
    parser.add_argument("folder", type=Path, help="where crops and projects are made and kept")
    parser.add_argument("--images", type=int, nargs="+", default=[5000])
    parser.add_argument("--rounds", type=int, default=3, help="figures are medians of so many")
    arguments = parser.parse_args()
    for n_images in arguments.images:
        measure(arguments.folder.resolve(), n_images, n_rounds=arguments.rounds)


if __name__ == "__main__":
    main()
