"""The ports with fakes behind them."""

from pathlib import Path

from fgpipe.ports import Ports
from tests.adapters.checker import FakeChecker
from tests.adapters.registry import FakeRegistry
from tests.adapters.tracker import FakeTracker


def fake_ports(root: Path, *, tracker: FakeTracker | None = None) -> Ports:
    """Fakes that keep what they are told in memory; checkpoints go to a folder of the root."""
    return Ports(
        checker=FakeChecker(),
        tracker=tracker or FakeTracker(),
        registry=FakeRegistry(),
        checkpoints=root / ".fgpipe" / "checkpoints",
    )
