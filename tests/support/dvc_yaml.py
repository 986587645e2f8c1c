"""What ``dvc.yaml`` must say, derived from ``pipeline.STAGES`` and the import graph.

``python -m tests.support.dvc_yaml`` writes the file's stages again, which is due when a
stage or what one of its modules imports has changed; the plots stay as they are.
"""

from functools import cache
from pathlib import Path

import grimp
import yaml

from fgpipe.pipeline import STAGES, Stage, stage_named

ROOT = Path(__file__).parents[2]
OUTSIDE = ("fgpipe", "fgpipe.__main__", "fgpipe.cli", "fgpipe.commands", "fgpipe.adapters")
"""What reaches stages and what they are handed as ports, but cannot change a number."""


@cache
def import_graph() -> grimp.ImportGraph:
    return grimp.build_graph("fgpipe", exclude_type_checking_imports=True, cache_dir=None)


def code_of(stage: Stage) -> list[str]:
    """Files of the modules that a stage's module reaches, and of the templates they name."""
    module = f"fgpipe.stages.{stage.name}"
    reached = {module} | import_graph().find_upstream_modules(module)
    sources = {_file(name) for name in reached if name not in OUTSIDE}
    text = "".join((ROOT / source).read_text() for source in sources)
    beside = {
        path.relative_to(ROOT)
        for source in sources
        for path in (ROOT / source).parent.iterdir()
        if path.is_file() and path.suffix != ".py" and f'"{path.name}"' in text
    }
    return sorted(path.as_posix() for path in sources | beside)


def _file(module: str) -> Path:
    path = Path(*module.split("."))
    return path / "__init__.py" if (ROOT / path).is_dir() else path.with_suffix(".py")


def deps_of(stage: Stage) -> list[str]:
    """What it reads, then its code."""
    return [dep for read in stage.reads for dep in _paths(read)] + code_of(stage)


def _paths(read: str) -> list[str]:
    match read:
        case "raw":
            return ["data/raw"]
        case "baseline":
            return ["data/baseline.json"]
        case "unlabelled":
            return ["data/unlabelled"]
        case "expectations":
            return ["data/expectations.yaml"]
        case "candidate":
            return [f"{stage_named('evaluate').folder.as_posix()}/candidate"]
        case _:
            folder = stage_named(read).folder.as_posix()
            return [f"{folder}/record.json", f"{folder}/payload"]


def outs_of(stage: Stage) -> list[str]:
    """Its record, then its folders."""
    folder = stage.folder.as_posix()
    return [f"{folder}/{name}" for name in ("record.json", *stage.folders)]


def entry_of(stage: Stage) -> dict[str, object]:
    """A stage's whole entry."""
    outs = outs_of(stage)
    made: dict[str, object] = (
        {"metrics": [{out: {"cache": False}} for out in outs]}
        if stage.name == "gate"
        else {"outs": outs}
    )
    return {
        "cmd": f"python -m fgpipe {stage.name}",
        "deps": deps_of(stage),
        "params": [stage.name],
        **made,
    }


def main() -> None:
    path = ROOT / "dvc.yaml"
    text = path.read_text()
    start, end = text.index("stages:\n"), text.index("\nplots:\n")
    stages = {"stages": {stage.name: entry_of(stage) for stage in STAGES}}
    written = yaml.safe_dump(stages, sort_keys=False, width=100)
    path.write_text(text[:start] + written + text[end:])


if __name__ == "__main__":
    main()
