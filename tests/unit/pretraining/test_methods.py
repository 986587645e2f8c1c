import math

import pytest
import torch
from torch import Tensor, nn

from fgpipe.pretraining.encoder import build_encoder
from fgpipe.pretraining.methods import (
    N_KINDS,
    Byol,
    Dino,
    Learner,
    MethodName,
    SimSiam,
    create_learner,
)
from fgpipe.training.precision import half_precision

NAMES = ("simsiam", "byol", "dino")
by_name = pytest.mark.parametrize("name", NAMES)
with_teacher = pytest.mark.parametrize("name", ["byol", "dino"])


def learner(name: MethodName, *, momentum: float = 0.9) -> Learner:
    return create_learner(
        name, build_encoder("test_resnet", image_size_px=32, seed=0), momentum=momentum, seed=1
    )


def views(n_images: int = 8) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    shape = (2, n_images, 32, 32, 3)
    first, second = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    return first, second


def cosines(one: Tensor, other: Tensor) -> list[float]:
    pairs = zip(one.detach(), other.detach(), strict=True)
    return [float(a @ b / (a @ a).sqrt() / (b @ b).sqrt()) for a, b in pairs]


def teacher_of(network: Byol | Dino) -> list[nn.Module]:
    modules = [network.teacher] if isinstance(network, Byol) else []
    return modules or [network.teacher, network.teacher_head]


def student_of(network: Byol | Dino) -> list[nn.Module]:
    modules = [network.student] if isinstance(network, Byol) else []
    return modules or [network.student, network.student_head]


def parameters(modules: list[nn.Module]) -> list[Tensor]:
    return [parameter.detach().clone() for each in modules for parameter in each.parameters()]


def test_simsiam_compares_each_prediction_with_the_other_projection() -> None:
    network = learner("simsiam").eval()
    assert isinstance(network, SimSiam)

    loss, rows = network.loss(*views())

    one, other = (network.projection(network.encoder(view)) for view in views())
    pairs = cosines(network.prediction(one), other) + cosines(network.prediction(other), one)
    assert loss.item() == pytest.approx(-sum(pairs) / 16, rel=1e-4)
    assert torch.allclose(rows, one)


def test_no_gradient_flows_through_what_simsiam_predicts() -> None:
    network = learner("simsiam").eval()
    assert isinstance(network, SimSiam)
    one, other = (network.projection(network.encoder(view)) for view in views())
    pairs = ((network.prediction(one), other), (network.prediction(other), one))
    by_hand = -sum(torch.cosine_similarity(a, b.detach()).mean() for a, b in pairs) / 2
    by_hand.backward()
    weights = list(network.projection.parameters())
    expected = [weight.grad for weight in weights]
    network.zero_grad()

    network.loss(*views())[0].backward()

    for weight, gradient in zip(weights, expected, strict=True):
        assert torch.allclose(weight.grad, gradient, atol=1e-6)


def test_byol_compares_each_prediction_with_the_teachers_row_of_the_other_view() -> None:
    network = learner("byol").eval()
    assert isinstance(network, Byol)
    nn.init.normal_(network.teacher[1].layers[0].weight)

    loss, rows = network.loss(*views())

    first, second = views()
    pairs = [
        *cosines(network.prediction(network.student(first)), network.teacher(second)),
        *cosines(network.prediction(network.student(second)), network.teacher(first)),
    ]
    assert loss.item() == pytest.approx(-sum(pairs) / 16, rel=1e-4)
    assert torch.allclose(rows, network.teacher(first))


def test_dino_is_the_cross_entropy_against_the_teachers_sharp_and_centred_kinds() -> None:
    network = learner("dino").eval()
    assert isinstance(network, Dino)
    network.criterion.center += torch.randn(N_KINDS) / 50
    centre = network.criterion.center.clone()[0, 0]

    loss, _ = network.loss(*views())

    terms = []
    for taught, given in (views(), reversed(views())):
        of_teacher = network.teacher_head(network.teacher(taught))
        of_student = network.student_head(network.student(given))
        for row, other in zip(of_teacher, of_student, strict=True):
            wanted = torch.softmax((row - centre) / 0.04, dim=0)
            got = torch.log_softmax(other / 0.1, dim=0)
            terms.append(-(wanted * got).sum().item())
    assert loss.item() == pytest.approx(math.fsum(terms) / len(terms), rel=1e-4)


@by_name
def test_a_few_steps_lower_the_loss_on_their_batch(name: MethodName) -> None:
    network = learner(name, momentum=0.99).train()
    optimiser = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], lr=1e-3)
    losses = []

    for step in range(4):
        if isinstance(network, Dino):
            network.criterion.center.zero_()  # it moves the goal
        loss, _ = network.loss(*views())
        losses.append(loss.item())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        network.after_update(step=step, n_steps=100)

    assert losses[-1] < losses[0]


@by_name
def test_a_loss_is_computed_in_float32_under_autocast(name: MethodName) -> None:
    network = learner(name).train()

    with half_precision(torch.device("cpu"), "bf16"):
        loss, _ = network.loss(*views())

    assert loss.dtype == torch.float32
    assert loss.item() != loss.bfloat16().item()


@with_teacher
def test_the_teacher_is_a_moving_average_whose_memory_grows(name: MethodName) -> None:
    network = learner(name, momentum=0.9)
    for parameter in (p for each in student_of(network) for p in each.parameters()):
        nn.init.normal_(parameter)
    before, student = parameters(teacher_of(network)), parameters(student_of(network))

    network.after_update(step=0, n_steps=5)
    network.after_update(step=2, n_steps=5)

    halfway = 1 - 0.1 * (math.cos(math.pi * 2 / 4) + 1) / 2
    for mean, start, value in zip(parameters(teacher_of(network)), before, student, strict=True):
        expected = 0.9 * start + 0.1 * value
        expected = halfway * expected + (1 - halfway) * value
        assert torch.allclose(mean, expected, atol=1e-5)


@with_teacher
def test_a_teacher_starts_as_its_student(name: MethodName) -> None:
    network = learner(name)

    pairs = zip(parameters(teacher_of(network)), parameters(student_of(network)), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


@with_teacher
def test_no_gradient_reaches_a_teacher_but_its_statistics_are_those_of_its_batches(
    name: MethodName,
) -> None:
    network = learner(name)
    network.eval().train()
    before = [buffer.clone() for each in teacher_of(network) for buffer in each.buffers()]

    loss, _ = network.loss(*views())
    loss.backward()

    after = [buffer for each in teacher_of(network) for buffer in each.buffers()]
    assert any(not torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert all(p.grad is None for each in teacher_of(network) for p in each.parameters())


def test_dinos_last_layer_stays_in_the_first_epoch() -> None:
    network = learner("dino").train()
    assert isinstance(network, Dino)
    weight = network.student_head.last_layer.weight_v

    for epoch, moves in ((1, False), (2, True)):
        network.zero_grad()
        network.loss(*views())[0].backward()
        network.before_update(epoch=epoch)
        assert (weight.grad is not None) is moves


@pytest.mark.parametrize(("name", "part"), [("simsiam", "encoder"), ("byol", "student.0")])
def test_what_is_learnt_is_the_network_itself(name: MethodName, part: str) -> None:
    network = learner(name)

    assert network.learnt is network.get_submodule(part)


def test_of_dino_the_teacher_is_learnt() -> None:
    network = learner("dino")
    assert isinstance(network, Dino)

    assert network.learnt is network.teacher


@by_name
def test_heads_are_those_of_the_seed_and_nothing_else_is_drawn(name: MethodName) -> None:
    torch.manual_seed(5)
    one = learner(name).state_dict()
    drawn = torch.rand(1)
    other = learner(name).state_dict()
    torch.manual_seed(5)

    assert all(torch.equal(value, other[key]) for key, value in one.items())
    assert torch.equal(torch.rand(1), drawn)
