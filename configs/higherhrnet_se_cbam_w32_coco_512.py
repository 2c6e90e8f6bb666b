# SE together with CBAM, of which the SE paper speaks as future work: one after the other where
# its SE is, between the stem's first two convolutions
_base_ = ['./higherhrnet_w32_coco_512_finetune.py']

model = dict(
    backbone=dict(
        plugins=[
            dict(cfg=dict(type='SEAttention', ratio=16), position='stem'),
            dict(cfg=dict(type='CBAMAttention', ratio=16), position='stem'),
        ]
    )
)
