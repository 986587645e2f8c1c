"""How fast the epochs of a training were, as its MLflow run has it."""

import statistics
from pathlib import Path

from fgpipe.adapters import mlflow_store as store
from fgpipe.operations.benchmark_cell import TrainingSpeed


def training_speed(train_sha256: str, *, root: Path, experiment: str) -> TrainingSpeed | None:
    """Of the newest run that made a training record; None where there is none.

    Epochs before a kill and after it are in the same run.

    Args:
        train_sha256: The record.
        root: The checkout in use.
        experiment: Where the run is.
    """
    client = store.connect(root)
    found = client.get_experiment_by_name(experiment)
    if found is None:
        return None
    runs = client.search_runs(
        [found.experiment_id], f"tags.`{store.TRAIN_SHA256}` = '{train_sha256}'", max_results=1
    )
    if not runs:
        return None
    rates, memory = (
        [metric.value for metric in client.get_metric_history(runs[0].info.run_id, name)]
        for name in ("images_per_s", "memory_mib")
    )
    if not any(rates):
        return None
    return TrainingSpeed(
        images_per_s=statistics.median(rate for rate in rates if rate > 0),
        memory_mib=max(memory),
    )
