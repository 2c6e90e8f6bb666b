# CBAM before the addition in every residual block, as in its ResNets. No paper's network.
_base_ = ['./hrnet_se_w32_coco_256x192.py']

cbam = dict(type='CBAMAttention', ratio=16)
model = dict(backbone=dict(plugins=[dict(site, cfg=cbam) for site in _base_.sites]))
