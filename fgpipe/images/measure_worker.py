"""Hashing and measuring in a process of its own: ``python -m fgpipe.images.measure_worker``.

Threads of one process would do if they did not wait for the interpreter's lock: measuring
an image costs a thread on two busy cores 420 microseconds of computing and a process 240,
and hashing one 80 and 18. A process that hashes takes 0.05 s to start, one that measures
0.4 s.

A worker says that it is ready and then answers each line, a JSON array of what to do
(``hash`` or ``measure``), a folder and names of files below it, with a line: for every file
an array of what was found, or a text that says why it cannot be used. It ends when no more
can come, so that none outlives who started it.
"""

import json
import sys
from collections.abc import Sequence

from fgpipe.errors import DataError
from fgpipe.images.collector import without_collector
from fgpipe.images.content import hash_some

READY = "ready\n"


def answer(what: str, folder: str, names: Sequence[str]) -> list[Sequence[object] | str]:
    """What a worker says of files."""
    if what == "hash":
        hashes = hash_some(folder, names)
        return [str(each) if isinstance(each, DataError) else [each] for each in hashes]

    from pathlib import Path

    from fgpipe.images.files import measure_some  # decoders, for which hashing need not wait

    results = measure_some(Path(folder), names)
    return [str(each) if isinstance(each, DataError) else each for each in results]


@without_collector()
def main() -> None:
    """Answer until the questions end."""
    sys.stdout.write(READY)
    sys.stdout.flush()
    for line in sys.stdin:
        what, folder, *names = json.loads(line)
        sys.stdout.write(json.dumps(answer(what, folder, names)) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
