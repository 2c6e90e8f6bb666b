# CBAM before the addition in every residual block, as in its ResNets. No paper's network:
# a comparison with the recipe of hrnet_w32_coco_256x192.
_base_ = ['./hrnet_w32_coco_256x192.py']

cbam = dict(type='CBAMAttention', ratio=16)
model = dict(
    backbone=dict(
        plugins=[
            dict(cfg=cbam, position='after_conv3'),
            dict(cfg=cbam, position='after_conv2', stages=(2, 3, 4)),
        ]
    )
)
