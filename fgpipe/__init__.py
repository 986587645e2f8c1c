"""fgpipe: from a folder of labelled images of look-alike classes to a served classifier.

Read :mod:`fgpipe.pipeline` first. Importing this package silences the telemetry of
every dependency, which is why :mod:`fgpipe.settings` is imported before anything else.
"""

from fgpipe import settings

__version__ = "0.1.0"

settings.prepare_environment()
