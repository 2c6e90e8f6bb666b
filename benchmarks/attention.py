"""What attention costs: HRNet of MMPose against the same with plugins, one image."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import torch
from mmengine.registry import init_default_scope
from mmpose.models import HRNet

from mmpose_attn.models import AttnHRNet, DEHRNet

from .networks import hrnet_extra
from .timing import Row, interleave

# what the papers put where; CAM/SAM's is its proposed model
PLUGINS = {
    'SE in the stem': [dict(cfg=dict(type='SEAttention'), position='stem')],
    'ECA in every block': [dict(cfg=dict(type='ECAAttention'), position='after_conv2')],
    'CBAM after every fusion': [dict(cfg=dict(type='CBAMAttention'), position='fuse')],
    'CAM/SAM': [
        dict(cfg=dict(type='CAMSAMAttention'), position='transition', branches=0),
        dict(cfg=dict(type='CAMSAMAttention'), position='transition', stages=1, branches=1),
    ],
    'PSA in every basic block': [
        dict(cfg=dict(type='PolarizedAttention'), position='after_conv1', stages=(2, 3, 4))
    ],
}


def rows(quick: bool, repeat: int | None, device: str) -> Iterator[Row]:
    width, size = (8, (64, 64)) if quick else (32, (192, 256))
    repeat = repeat or (2 if quick else 100)
    init_default_scope('mmpose')  # where plugins are looked up
    extra = hrnet_extra(width)
    plain = HRNet(extra).to(device)
    plain.eval()
    image = torch.randn(1, 3, *size[::-1], generator=torch.Generator().manual_seed(0)).to(device)
    builders = {name: partial(AttnHRNet, extra, plugins) for name, plugins in PLUGINS.items()}
    builders['DEM and DySample'] = partial(DEHRNet, extra)
    for name, build in {'no plugin': partial(AttnHRNet, extra), **builders}.items():
        network = build().to(device).eval()
        # the very same weights: where a copy lies in memory alone makes up to 2 %
        network.load_state_dict(plain.state_dict(), strict=False, assign=True)
        with torch.no_grad():
            pair = interleave(partial(plain, image), partial(network, image), repeat, device)
        plugins = [plugin.module for plugin in network.named_plugins()]
        with torch.no_grad():
            if not plugins and not torch.equal(plain(image)[0], network(image)[0]):
                raise RuntimeError('AttnHRNet without plugins differs from HRNet')
        cost = sum(p.numel() for plugin in plugins for p in plugin.parameters())
        name = f'HRNet-W{width} {size[0]}x{size[1]}, then with {name}'
        note = f'{len(plugins)} places, {cost:,} parameters'
        row = Row(name, *pair, note)
        yield replace(row, note=f'{100 * row.overhead:+.1f} %; {note}')
