"""Dite-HRNet: the authors' numbers under the authors' names."""

import json

import numpy as np
import pytest
import torch

from mmpose_attn.models import DiteHRNet
from tests.helpers import PARITY, assert_close, parity_sample, parity_state

pytestmark = pytest.mark.usefixtures('mmpose_scope')
NAME = 'dite18_256x192'


def dite_extra(width=40, modules=(2, 4, 2), stem=32, with_head=True):
    """The released configs' ``extra``; narrower for networks of milliseconds."""
    return dict(
        stem=dict(stem_channels=stem, out_channels=stem, expand_ratio=1),
        num_stages=len(modules),
        stages_spec=dict(
            num_modules=modules,
            num_branches=tuple(range(2, 2 + len(modules))),
            num_blocks=(2,) * len(modules),
            with_fuse=(True,) * len(modules),
            reduce_ratios=(8,) * len(modules),
            num_channels=tuple(
                tuple(width * 2**i for i in range(count)) for count in range(2, 2 + len(modules))
            ),
        ),
        with_head=with_head,
    )


@pytest.fixture
def two_threads():
    """What the parity numbers were computed with: the order of sums depends on it."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_parity(two_threads):
    net = DiteHRNet(dite_extra())
    shapes = json.loads((PARITY / f'{NAME}.keys.json').read_text())
    assert {k: list(v.shape) for k, v in net.state_dict().items()} == shapes
    net.load_state_dict(parity_state(shapes), strict=False)
    with np.load(PARITY / f'{NAME}.npz') as expected:
        noise = np.random.default_rng(0).normal(size=tuple(expected['input_shape']))
        x = torch.from_numpy(noise.astype(np.float32))
        net.train(False)
        with torch.no_grad():
            y = net(x)[0]
        assert tuple(y.shape) == tuple(expected['eval_0_shape'])
        assert_close(parity_sample(y), expected['eval_0'], 1e-5)
