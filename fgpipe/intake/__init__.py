"""What `fgpipe data ...` does: images and labels come in, checked and grouped.

::

    source (fetch, import_folder)  ->  checked copy  ->  labels.csv, groups.csv  ->  data/raw
"""

from fgpipe.intake.importing import fetch, import_folder
from fgpipe.intake.reporting import ImportReport

__all__ = ["ImportReport", "fetch", "import_folder"]
