"""What `fgpipe data ...` does: images and labels come in, checked and grouped.

::

    source -> checked, grouped, quarantined -> staged beside data/raw -> data/raw
"""
