"""How to learn from two views of an image without its label: the only module of lightly.

===========  =============================================================================
``simsiam``  one network; a small one on top of it predicts what the other view becomes, and
             no gradient flows through what is predicted
``byol``     the same, but what is predicted comes from a teacher, a moving average of the
             network
``dino``     a teacher too, but views are sorted into kinds that nobody named, and the
             network is to sort as its teacher, whose answers are sharpened and centred
===========  =============================================================================

Heads and losses are lightly's, of the papers' sizes but for DINO's output.

Sources: Chen and He, "Exploring Simple Siamese Representation Learning"; Grill et al.,
"Bootstrap Your Own Latent"; Caron et al., "Emerging Properties in Self-Supervised Vision
Transformers". Differ in the optimiser, which is AdamW for all, and DINO in seeing two large
views and no small ones.
"""

import copy
import warnings
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, UInt8
from lightly.loss import DINOLoss, NegativeCosineSimilarity
from lightly.models.modules.heads import (
    BYOLPredictionHead,
    BYOLProjectionHead,
    DINOProjectionHead,
    SimSiamPredictionHead,
    SimSiamProjectionHead,
)
from lightly.models.utils import update_momentum
from lightly.utils.scheduler import cosine_schedule
from torch import Tensor, nn

from fgpipe.pretraining.encoder import Encoder

MethodName = Literal["simsiam", "byol", "dino"]
Images = UInt8[Tensor, "batch height width 3"]

N_KINDS = 2048
"""DINO's output; the paper's 65,536 are for a million images."""


class Compared(NamedTuple):
    """What a learner makes of the two views of a batch."""

    loss: Float[Tensor, ""]
    """What a step lowers."""
    rows: Float[Tensor, "batch outputs"]
    """What one view of each image became, for the other's to be like."""


class SimSiam(nn.Module):
    """One network and its predictor."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.projection = SimSiamProjectionHead(encoder.n_channels)
        self.prediction = SimSiamPredictionHead()

    @property
    def learnt(self) -> Encoder:
        """The only one there is."""
        return self.encoder

    def loss(self, first: Images, second: Images) -> Compared:
        """Negative cosine of each view's prediction with the other's projection."""
        one, other = (self.projection(self.encoder(view)) for view in (first, second))
        from_one, from_other = (self.prediction(each) for each in (one, other))
        loss = _mutual(from_one, from_other, one=one.detach(), other=other.detach())
        return Compared(loss, one.detach())

    def before_update(self, *, epoch: int) -> None:
        """Nothing."""

    def after_update(self, *, step: int, n_steps: int) -> None:
        """Nothing."""


class Byol(nn.Module):
    """A network, its predictor and its teacher."""

    def __init__(self, encoder: Encoder, *, momentum: float) -> None:
        super().__init__()
        self.momentum = momentum
        self.student = nn.Sequential(encoder, BYOLProjectionHead(encoder.n_channels))
        self.teacher = copy.deepcopy(self.student).requires_grad_(requires_grad=False)
        self.prediction = BYOLPredictionHead()

    def train(self, mode: bool = True) -> "Byol":  # noqa: FBT001, FBT002 - torch's signature
        """Set training or evaluation."""
        super().train(mode)
        if mode:
            _with_batch_statistics(self.teacher)
        return self

    @property
    def learnt(self) -> Encoder:
        """The student's."""
        encoder = self.student[0]
        assert isinstance(encoder, Encoder)
        return encoder

    def loss(self, first: Images, second: Images) -> Compared:
        """Negative cosine of each view's prediction with what the teacher makes of the other.

        It is the paper's squared distance of unit rows, halved and less 1.
        """
        with torch.no_grad():
            one, other = (self.teacher(view) for view in (first, second))
        from_one, from_other = (self.prediction(self.student(view)) for view in (first, second))
        return Compared(_mutual(from_one, from_other, one=one, other=other), one)

    def before_update(self, *, epoch: int) -> None:
        """Nothing."""

    def after_update(self, *, step: int, n_steps: int) -> None:
        """Let the teacher follow."""
        _follow(self.teacher, self.student, momentum=self.momentum, step=step, n_steps=n_steps)


class Dino(nn.Module):
    """A network and its teacher."""

    def __init__(self, encoder: Encoder, *, momentum: float) -> None:
        super().__init__()
        self.momentum = momentum
        self.student, self.student_head = encoder, _dino_head(encoder.n_channels)
        # Not a copy of the head: its weight is computed from others, which cannot be copied.
        self.teacher, self.teacher_head = copy.deepcopy(encoder), _dino_head(encoder.n_channels)
        self.teacher_head.load_state_dict(self.student_head.state_dict())
        self.teacher.requires_grad_(requires_grad=False)
        self.teacher_head.requires_grad_(requires_grad=False)
        self.criterion = DINOLoss(output_dim=N_KINDS)

    def train(self, mode: bool = True) -> "Dino":  # noqa: FBT001, FBT002 - torch's signature
        """Set training or evaluation."""
        super().train(mode)
        if mode:
            _with_batch_statistics(self.teacher)
        return self

    @property
    def learnt(self) -> Encoder:
        """The teacher's, which the paper finds to be ahead of the student's all along."""
        return self.teacher

    def loss(self, first: Images, second: Images) -> Compared:
        """Cross-entropy of the student's kinds of each view against the teacher's of the other."""
        views = (first, second)
        with torch.no_grad():
            taught = [self.teacher_head(self.teacher(view)).float() for view in views]
        given = [self.student_head(self.student(view)).float() for view in views]
        with torch.autocast(first.device.type, enabled=False):  # else its sums are in bf16
            loss: Tensor = self.criterion(taught, given)
        return Compared(loss, taught[0])

    def before_update(self, *, epoch: int) -> None:
        """Hold the last layer still in the first epoch."""
        self.student_head.cancel_last_layer_gradients(current_epoch=epoch - 1)

    def after_update(self, *, step: int, n_steps: int) -> None:
        """Let the teacher follow."""
        for mean, network in (
            (self.teacher, self.student),
            (self.teacher_head, self.student_head),
        ):
            _follow(mean, network, momentum=self.momentum, step=step, n_steps=n_steps)


Learner = SimSiam | Byol | Dino
"""A network that learns from pairs of views. ``learnt`` is the encoder that training proper
goes on from, ``loss`` what a step lowers; ``before_update`` comes between a step's gradients
and its update, ``after_update`` behind it."""


def create_learner(name: MethodName, encoder: Encoder, *, momentum: float, seed: int) -> Learner:
    """What learns from an encoder by the method of that name, its heads drawn from ``seed``.

    Args:
        name: Which one.
        encoder: Trained in place, or copied where its teacher is what is learnt.
        momentum: What a step keeps of the teacher at first, below 1; it rises to 1 as a
            cosine. Not used by ``simsiam``.
        seed: Of the heads' weights.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        match name:
            case "simsiam":
                return SimSiam(encoder)
            case "byol":
                return Byol(encoder, momentum=momentum)
            case "dino":
                return Dino(encoder, momentum=momentum)


def _dino_head(n_channels: int) -> DINOProjectionHead:
    with warnings.catch_warnings():  # of torch, about the weight norm that lightly uses
        warnings.filterwarnings("ignore", message=".*weight_norm.*", category=FutureWarning)
        return DINOProjectionHead(n_channels, output_dim=N_KINDS, freeze_last_layer=1)


def _mutual(
    from_one: Tensor, from_other: Tensor, *, one: Tensor, other: Tensor
) -> Float[Tensor, ""]:
    """Mean negative cosine of each view's prediction with the other view, in float32."""
    criterion = NegativeCosineSimilarity()
    with torch.autocast(one.device.type, enabled=False):
        of_other: Tensor = criterion(from_one.float(), other.float())
        of_one: Tensor = criterion(from_other.float(), one.float())
        return (of_other + of_one) / 2


def _with_batch_statistics(teacher: nn.Module) -> None:
    """Set training though nothing of it is trained, which a backbone takes for frozen.

    Else its norms would go on with the statistics that they came with.
    """
    for module in teacher.modules():
        module.training = True


def _follow(
    teacher: nn.Module, student: nn.Module, *, momentum: float, step: int, n_steps: int
) -> None:
    kept = cosine_schedule(step, n_steps, start_value=momentum, end_value=1.0)
    update_momentum(student, teacher, m=kept)
