"""Nothing phones home: no library asks for anything beyond this machine.

Each is imported and used as fgpipe uses it, in a process of its own.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from fgpipe import settings
from tests.support.network_audit import NetworkAudit
from tests.support.tiny_project import environment, make_tiny_project

pytestmark = pytest.mark.e2e

USES = {
    "albumentations": """
        import numpy as np
        from fgpipe.images.augmentations import augmentation
        from fgpipe.images.transforms import Preprocessing
        image = np.zeros((40, 50, 3), np.uint8)
        shape = Preprocessing.from_config(image_size_px=32, resize="squash")
        augmentation("square")(shape(image), seed=0)
    """,
    "bentoml": """
        import shutil
        from pathlib import Path
        from fgpipe.adapters.bento_builder import BentoBuilder
        from tests.support.tiny_bundle import tiny_bundle
        from tests.support.tiny_project import ROOT
        Path("deploy").mkdir()
        shutil.copy(ROOT / "deploy" / "service.py", "deploy")
        bundle = tiny_bundle(Path("bundle"))
        builder = BentoBuilder(Path())
        tag = builder.build(Path("bundle"), bundle_sha256=bundle.bundle_sha256, name="tiny")
        builder.prove(tag)
    """,
    "great_expectations": """
        import pandas as pd
        from fgpipe.adapters.gx_checks import GxChecker
        from fgpipe.ports import Expectation
        unique = Expectation(
            name="unique",
            description="Paths are unique.",
            kind="expect_column_values_to_be_unique",
            arguments={"column": "path"},
        )
        [result] = GxChecker().check(pd.DataFrame({"path": ["a", "b"]}), [unique])
        assert result.passed
    """,
    "lightly": """
        import torch
        from fgpipe.pretraining.encoder import build_encoder
        from fgpipe.pretraining.methods import create_learner
        images = torch.zeros(4, 32, 32, 3, dtype=torch.uint8)
        for name in ("simsiam", "byol", "dino"):
            encoder = build_encoder("test_resnet", image_size_px=32, seed=0)
            create_learner(name, encoder, momentum=0.9, seed=0).train().loss(images, images)
    """,
    "mlflow": """
        from pathlib import Path
        from fgpipe.adapters.mlflow_registry import MlflowRegistry
        from fgpipe.adapters.mlflow_tracker import MlflowTracker
        from tests.support.tiny_project import epoch
        with MlflowTracker(Path()).training(input_key="a", parameters={"a": 1}) as run:
            run.log_epoch(epoch(1), speed={"epoch_s": 1.0})
        assert MlflowRegistry(Path()).champion() is None
    """,
    "openvino": """
        from pathlib import Path
        from tests.support.tiny_bundle import tiny_bundle
        tiny_bundle(Path("openvino"))
    """,
    "timm": """
        import torch
        from fgpipe.nn.backbones import Backbone
        Backbone("test_resnet")(torch.zeros(1, 3, 64, 64))
    """,
}


@pytest.fixture
def audit(tmp_path: Path) -> NetworkAudit:
    return NetworkAudit(tmp_path / "audit")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_project(tmp_path_factory.mktemp("tiny"))


def run(*command: str, audit: NetworkAudit, root: Path) -> subprocess.CompletedProcess[str]:
    """Run ``command`` as a shell without our settings would: fgpipe must make them."""
    bare = {name: value for name, value in environment().items() if name not in settings.QUIET}
    return subprocess.run(
        [*audit.cut(), *command],
        cwd=root,
        env=audit.environment(bare),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


@pytest.mark.parametrize("library", USES)
def test_a_library_asks_nothing_of_the_network(
    library: str, audit: NetworkAudit, tmp_path: Path
) -> None:
    done = run(sys.executable, "-c", _dedent(USES[library]), audit=audit, root=tmp_path)

    assert audit.attempts() == []
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "arguments", [("dvc", "add", "data/raw"), ("dvc", "repro"), ("flows.train",)], ids=" ".join
)
def test_a_command_asks_nothing_of_the_network(
    arguments: tuple[str, ...], audit: NetworkAudit, project: Path
) -> None:
    done = run(sys.executable, "-m", *arguments, audit=audit, root=project)

    assert audit.attempts() == []
    assert done.returncode == 0, done.stderr


CALLS = """
import socket, subprocess, sys
code = "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).connect(('192.0.2.1', 9))"
subprocess.run([sys.executable, "-c", code])
try:
    socket.getaddrinfo("example.invalid", 80)
except OSError:
    pass
socket.getaddrinfo("localhost", 80)
"""


def test_the_audit_sees_a_call_from_a_child_and_a_look_up_but_not_loopback(
    audit: NetworkAudit, tmp_path: Path
) -> None:
    run(sys.executable, "-c", CALLS, audit=audit, root=tmp_path)

    called, looked_up = audit.attempts()
    assert called.startswith("socket.connect '192.0.2.1'")
    assert looked_up.startswith("socket.getaddrinfo 'example.invalid'")


def _dedent(code: str) -> str:
    return "\n".join(line[8:] for line in code.splitlines())
