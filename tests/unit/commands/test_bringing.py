"""What ``fgpipe data sources`` tells."""

from click.testing import CliRunner

from fgpipe.commands.bringing import sources
from fgpipe.images.sources.registry import SOURCES


def test_every_kind_is_listed_with_its_layout_and_licence_and_whether_it_is_fetched() -> None:
    result = CliRunner().invoke(sources, [])

    lines = result.output.splitlines()
    assert result.exit_code == 0
    for kind in SOURCES.values():
        place = next(i for i, line in enumerate(lines) if line.split()[:1] == [kind.name])
        assert kind.what in lines[place]
        assert lines[place].endswith("(fetch)") == (kind.fetch is not None)
        assert lines[place + 1].strip() == f"layout: {kind.layout}"
        if kind.licence:
            assert lines[place + 2].strip() == f"licence: {kind.licence}"
