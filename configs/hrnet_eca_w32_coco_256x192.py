# ECA before the addition in every residual block, as in ECA-Net. No paper's network:
# a comparison with the recipe of hrnet_w32_coco_256x192.
_base_ = ['./hrnet_w32_coco_256x192.py']

eca = dict(type='ECAAttention')
model = dict(
    backbone=dict(
        plugins=[
            dict(cfg=eca, position='after_conv3'),
            dict(cfg=eca, position='after_conv2', stages=(2, 3, 4)),
        ]
    )
)
