"""Batch renormalisation against its formula, its statistics, its warm-up and its modes; dropout in ensembles."""

from __future__ import annotations

import pytest
import torch
from bellmark.agents.core.batch_renorm import BatchRenorm, training
from bellmark.agents.core.nets import Linear, frozen_copy, mlp
from torch import Tensor, nn

ROWS = torch.tensor([[1.0], [2.0], [3.0], [6.0]], dtype=torch.float64)


def layer_of(mean: float = 1.0, variance: float = 4.0, **options) -> BatchRenorm:
    layer = BatchRenorm(1, **options).double()
    with torch.no_grad():
        layer.mean.fill_(mean)
        layer.variance.fill_(variance)
    return layer


def by_hand(x: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """The formula of the paper, a feature at a time; r and d are constants."""
    columns = []
    for column, m0, v0 in zip(x.unbind(1), mean, variance, strict=True):
        m = sum(column) / len(column)
        sigma = (sum((value - m) ** 2 for value in column) / len(column) + 1e-3) ** 0.5
        running = (v0 + 1e-3) ** 0.5
        r = min(max((sigma / running).item(), 1 / 3), 3.0)
        d = min(max(((m - m0) / running).item(), -5.0), 5.0)
        columns.append((column - m) / sigma * r + d)
    return torch.stack(columns, 1)


def test_the_formula_and_its_gradient():
    layer = BatchRenorm(4).double()
    layer.mean.copy_(torch.tensor([0.0, 1.0, -30.0, 0.2]))
    layer.variance.copy_(torch.tensor([1.0, 4.0, 0.5, 50.0]))
    mean, variance = layer.mean.clone(), layer.variance.clone()
    x = torch.randn(9, 4, dtype=torch.float64) * torch.tensor([1.0, 2.0, 9.0, 0.1]) + 0.3
    x.requires_grad_()
    weight = torch.randn(9, 4, dtype=torch.float64)
    ours, theirs = layer(x), by_hand(x, mean, variance)
    torch.testing.assert_close(ours, theirs)
    gradients = [torch.autograd.grad((weight * y).sum(), x)[0] for y in (ours, theirs)]
    torch.testing.assert_close(*gradients)


def test_unclipped_it_gives_what_running_statistics_would():
    layer = layer_of()
    torch.testing.assert_close(layer(ROWS), (ROWS - 1.0) / (4.001**0.5))


def test_running_statistics_of_the_card():
    layer = layer_of()
    layer(ROWS)
    assert layer.mean.item() == pytest.approx(1.02)
    assert layer.variance.item() == pytest.approx(3.995)
    assert layer.passes.item() == 1
    expected = torch.tensor([[-0.010005], [0.490245], [0.990495], [2.491246]], dtype=torch.float64)
    torch.testing.assert_close(layer.eval()(ROWS), expected, atol=1e-6, rtol=0)
    assert layer.passes.item() == 1 and layer.mean.item() == pytest.approx(1.02), "evaluation changes nothing"


def test_corrections_are_clipped():
    for mean, variance, r, d in [(-20.0, 4.0, 0.935431, 5.0), (90.0, 4.0, 0.935431, -5.0), (3.0, 1e-4, 3.0, 0.0)]:
        found = layer_of(mean, variance).corrections(ROWS.mean(0), ROWS.var(0, correction=0))
        torch.testing.assert_close(torch.cat(found), torch.tensor([r, d], dtype=torch.float64), atol=1e-6, rtol=0)
    found = layer_of(3.0, 400.0).corrections(ROWS.mean(0), ROWS.var(0, correction=0))
    assert found[0].item() == pytest.approx(1 / 3)


def test_first_passes_are_plain_batch_normalisation():
    layer = layer_of(warmup=2)
    plain = torch.tensor([[-1.068892], [-0.534446], [0.0], [1.603338]], dtype=torch.float64)
    for _ in range(2):
        torch.testing.assert_close(layer(ROWS), plain, atol=1e-6, rtol=0)
    corrected = by_hand(ROWS, layer.mean.clone(), layer.variance.clone())
    torch.testing.assert_close(layer(ROWS), corrected)
    assert layer.mean.item() == pytest.approx(3 - 2 * 0.99**3)


@pytest.mark.parametrize("own_input", [False, True])
@pytest.mark.parametrize("mode", [True, False])
def test_members_of_an_ensemble_have_their_own_statistics(own_input, mode):
    ensemble, x = BatchRenorm(3, size=2), torch.randn(2, 7, 3) if own_input else torch.randn(7, 3)
    with torch.no_grad():
        for value in (ensemble.mean, ensemble.scale, ensemble.shift):
            value.normal_()
        ensemble.variance.uniform_(0.5, 2.0)
    singles = []
    for e in range(2):
        single = BatchRenorm(3)
        with torch.no_grad():
            for own, other in zip([*single.parameters(), *single.buffers()], state_of(ensemble), strict=True):
                own.copy_(other[e].view_as(own))
        singles.append(single.train(mode))
    output = ensemble.train(mode)(x)
    for e, single in enumerate(singles):
        torch.testing.assert_close(output[e], single(x[e] if own_input else x))
        torch.testing.assert_close(ensemble.mean[e, 0], single.mean)
        torch.testing.assert_close(ensemble.variance[e, 0], single.variance)


def state_of(module: nn.Module) -> list[Tensor]:
    return [*module.parameters(), *module.buffers()]


def test_one_row_has_a_finite_gradient():
    x = torch.randn(1, 3, requires_grad=True)
    (gradient,) = torch.autograd.grad(BatchRenorm(3)(x).sum(), x)
    assert gradient.isfinite().all()


def test_training_is_a_stretch_of_the_program():
    net = mlp(3, (4,), 1, batch_renorm=5).eval()
    with training(net):
        assert net.training and net[0].training
        net(torch.randn(6, 3))
    assert not net[0].training
    assert net[0].passes.item() == 1
    assert [type(layer) for layer in net] == [BatchRenorm, Linear, nn.ReLU, BatchRenorm, Linear]
    with pytest.raises(RuntimeError), training(net):
        net(torch.randn(6, 4))
    assert not net[0].training


def test_targets_take_over_statistics():
    from bellmark.agents.core.parameters import FlatParameters

    net = mlp(3, (4,), 1, batch_renorm=0)
    target = frozen_copy(net)
    net(torch.randn(6, 3) + 5)
    FlatParameters(target).follow(FlatParameters(net), 0.1)
    assert torch.equal(target[0].mean, net[0].mean) and target[0].passes.item() == 1


def test_dropout_is_independent_from_member_to_member_and_from_pass_to_pass():
    net, x = mlp(4, (1000,), size=3, dropout=0.3, activation="elu"), torch.rand(1, 4)
    with torch.no_grad():
        net[0].weight.zero_()
        net[0].bias.fill_(1.0)
    first, second = net(x)[:, 0], net(x)[:, 0]
    kept = first > 0
    torch.testing.assert_close(first[kept], torch.full_like(first[kept], 1 / 0.7))
    assert kept.float().mean().item() == pytest.approx(0.7, abs=0.05)
    for a, b in [(kept[0], kept[1]), (kept[0], kept[2]), (kept[0], second[0] > 0)]:
        assert (a == b).float().mean().item() == pytest.approx(0.58, abs=0.08), "0.7^2 + 0.3^2 agree by chance"


def test_dropout_leaves_the_mean_of_a_linear_net():
    net, x = mlp(4, (50,), 1, dropout=0.2), torch.rand(1, 4)
    net[2] = nn.Identity()
    samples = net(x.expand(20_000, 4)).detach()
    expected = net[3](net[0](x)).item()
    assert samples.mean().item() == pytest.approx(expected, abs=5 * samples.std().item() / 20_000**0.5)
    weight = net[3].weight.detach()[:, 0] * net[0](x).detach()[0]
    assert samples.var().item() == pytest.approx((weight.square().sum() * 0.2 / 0.8).item(), rel=0.1)
