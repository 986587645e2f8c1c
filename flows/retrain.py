"""Train where something has changed, and promote what passes: ``python -m flows.retrain``."""

from pathlib import Path

from prefect import State, flow
from prefect.states import Completed

from fgpipe.pipeline import BASELINE, load_record
from fgpipe.records import Baseline, Bundle, GateDecision
from flows import tools
from flows.command import run_as_command
from flows.promote import promote_flow
from flows.steps import refresh_baseline, refusal, say
from flows.train import train_flow


@flow(name="retrain", persist_result=False)
def retrain_flow(root: Path = Path()) -> GateDecision | State[GateDecision]:
    """Bring every stage up to date and promote; do nothing where nothing has changed."""
    settled = settled_decision(root)
    if settled is not None:
        message = f"nothing has changed; {settled.summary}"
        say(message)
        return Completed(name="Unchanged", message=message, data=settled)
    decision = train_flow(root)
    assert isinstance(decision, GateDecision)
    if not decision.passed:
        return refusal(decision)
    promote_flow(root)
    return decision


def settled_decision(root: Path) -> GateDecision | None:
    """The verdict that stands, if neither training nor promoting would do anything."""
    if not tools.reproducer(root).is_up_to_date():
        return None
    judged_against = Baseline.load(root / BASELINE)
    if refresh_baseline(root) != judged_against:
        return None
    decision = load_record(GateDecision, root=root)
    champion = tools.registry(root).champion()
    bundle = load_record(Bundle, root=root)
    serves = champion is not None and champion.bundle_sha256 == bundle.bundle_sha256
    return decision if serves or not decision.passed else None


if __name__ == "__main__":
    run_as_command(retrain_flow)
