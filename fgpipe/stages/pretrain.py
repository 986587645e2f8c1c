"""04 pretrain: let the backbone learn from images without their labels, if that is asked for.

It learns from the training split and from ``data/unlabelled``; what it learnt is handed on
only where a linear classifier on the frozen backbone is no worse than before, on validation.
Without a method the stage does nothing, and imports nothing for it.
"""

from pathlib import Path

from fgpipe.config import PretrainConfig
from fgpipe.ports import Ports
from fgpipe.records import Manifest, Preprocessed, Pretrained, PretrainingFigures, Stored


def pretrain(
    *,
    unlabelled: Path,
    manifest: Stored[Manifest],
    preprocess: Stored[Preprocessed],
    config: PretrainConfig,
    out: Path,
    ports: Ports,
) -> Pretrained:
    """Pretrain a backbone and write its weights, if they are worth it.

    A refusal is a result: training then starts as without this stage.

    Raises:
        ConfigError: If backbone, weights or device are not to be had.
        DataError: If an image of ``data/unlabelled`` cannot be read.
        PipelineError: If the loss is not finite, or memory does not do for a batch.
    """
    if config.method == "none":
        # DVC warns of an empty folder, over and over.
        header = ",".join(PretrainingFigures.model_fields)
        (out / "payload" / "curves.csv").write_text(header + "\n")
        return Pretrained(method="none", pretraining=None)
    from fgpipe.pretraining.run import run_pretraining

    pretraining = run_pretraining(
        manifest,
        preprocess,
        method=config.method,
        unlabelled=unlabelled,
        config=config,
        payload=out / "payload",
        checkpoints=ports.checkpoints,
    )
    return Pretrained(method=config.method, pretraining=pretraining)
