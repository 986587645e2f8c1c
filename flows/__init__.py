"""The flows: Prefect, and nothing else knows it.

Prefect reads its settings when it is imported, so they are set here, before any module of
this package can import it.
"""

from flows import environment

environment.prepare_environment()
