# SE in the stem and on every branch after every fusion: the SE paper's negative result
# ("in all branches", its exact places are not given)
_base_ = ['./higherhrnet_se_w32_coco_512.py']

model = dict(
    backbone=dict(
        plugins=[
            dict(cfg=dict(type='SEAttention', ratio=16), position='stem'),
            dict(cfg=dict(type='SEAttention', ratio=16), position='fuse'),
        ]
    )
)
