"""CPUAutocastOptimWrapper: bfloat16 where the CPU computes in it, float32 everywhere else."""

import pytest
import torch
from mmpose.registry import OPTIM_WRAPPERS
from torch import nn


@pytest.fixture(params=[True, False])
def able(request, monkeypatch):
    monkeypatch.setattr(torch.cpu, '_is_avx512_bf16_supported', lambda: request.param)
    return request.param


def test_forward_in_bfloat16_step_in_float32(able):
    model = nn.Linear(4, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    wrapper = OPTIM_WRAPPERS.build(dict(type='CPUAutocastOptimWrapper', optimizer=optimizer))
    before = model.weight.detach().clone()
    x = torch.randn(2, 4)
    with wrapper.optim_context(model):
        out = model(x)
    assert out.dtype == (torch.bfloat16 if able else torch.float32)
    assert model(x).dtype == torch.float32  # not outside
    wrapper.update_params(out.float().sum())
    assert model.weight.dtype == torch.float32
    expected = before - 0.5 * x.sum(0)
    torch.testing.assert_close(model.weight.detach(), expected.expand(3, 4), atol=0.02, rtol=0.02)
