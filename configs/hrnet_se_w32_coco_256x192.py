# SE before the addition in every residual block, as in SE-ResNet. No paper's network:
# a comparison with the recipe of hrnet_w32_coco_256x192.
_base_ = ['./hrnet_w32_coco_256x192.py']

se = dict(type='SEAttention', ratio=16)
sites = [dict(position='after_conv3'), dict(position='after_conv2', stages=(2, 3, 4))]
model = dict(backbone=dict(plugins=[dict(site, cfg=se) for site in sites]))
