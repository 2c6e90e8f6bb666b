# ECA before the addition in every residual block, as in ECA-Net. No paper's network.
_base_ = ['./hrnet_se_w32_coco_256x192.py']

eca = dict(type='ECAAttention')
model = dict(backbone=dict(plugins=[dict(site, cfg=eca) for site in _base_.sites]))
