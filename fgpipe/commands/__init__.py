"""The commands of ``fgpipe data``, one subject a module; :mod:`fgpipe.cli` gathers them."""
