"""Train a model and decide whether it may be packaged: ``python -m flows.train``."""

from pathlib import Path

from prefect import State, flow

from fgpipe.records import (
    Bundle,
    Evaluation,
    GateDecision,
    Manifest,
    Preprocessed,
    Pretrained,
    TrainedModel,
    Validation,
)
from flows.command import run_as_command
from flows.steps import refresh_baseline, refusal, say, step


@flow(name="train", persist_result=False)
def train_flow(root: Path = Path()) -> GateDecision | State[GateDecision]:
    """Bring every stage up to date; a refusal is a result, named ``Rejected`` or ``Hold``."""
    step("manifest", Manifest, root)
    step("validate", Validation, root)
    step("preprocess", Preprocessed, root)
    step("pretrain", Pretrained, root)
    step("train", TrainedModel, root)
    refresh_baseline(root)
    step("evaluate", Evaluation, root)
    decision = step("gate", GateDecision, root)
    step("package", Bundle, root)
    if not decision.passed:
        say(decision.summary)
        return refusal(decision)
    return decision


if __name__ == "__main__":
    run_as_command(train_flow)
