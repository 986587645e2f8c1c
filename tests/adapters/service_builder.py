"""The service builder in memory."""

from pathlib import Path

from fgpipe.errors import ParityError


class FakeServiceBuilder:
    """Tags are ``name:bundle[:8]-code``; what was built and proved is kept in order."""

    def __init__(self, *, code: str = "1") -> None:
        self.code = code
        self.built: list[str] = []
        self.proved: list[str] = []
        self.wrong_answers = False

    def build(self, bundle: Path, *, bundle_sha256: str, name: str) -> str:
        tag = f"{name}:{bundle_sha256[:8]}-{self.code}"
        if tag not in self.built:
            self.built.append(tag)
        return tag

    def has(self, tag: str) -> bool:
        return tag in self.built

    def prove(self, tag: str) -> None:
        if self.wrong_answers:
            message = f"{tag} answers otherwise"
            raise ParityError(message)
        self.proved.append(tag)
