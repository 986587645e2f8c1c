"""The reproducer in memory."""

from collections.abc import Callable
from pathlib import Path

from fgpipe.ports import Reproduced


class FakeReproducer:
    """Runs a stage once; ``change`` makes all of them due again."""

    def __init__(self, stages: tuple[str, ...], run: Callable[[str], None]) -> None:
        self.stages = stages
        self.run = run
        self.reproduced: list[str] = []
        """Every stage asked for, in order."""
        self.done: set[str] = set()
        self.added: list[Path] = []

    def reproduce(self, stage: str) -> Reproduced:
        due = [name for name in ([stage] if stage else self.stages) if name not in self.done]
        self.reproduced += [stage] if stage else self.stages
        for name in due:
            self.run(name)
            self.done.add(name)
        return "made" if due else "unchanged"

    def is_up_to_date(self) -> bool:
        return self.done == set(self.stages)

    def add(self, path: Path) -> str:
        self.added.append(path)
        return "0" * 32 + ".dir"

    def change(self) -> None:
        self.done.clear()
