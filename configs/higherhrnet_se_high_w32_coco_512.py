# SE on a selected branch, of which the SE paper speaks as future work: the highest resolution,
# from which the head reads, after every fusion. stages and branches select others.
_base_ = ['./higherhrnet_w32_coco_512_finetune.py']

model = dict(
    backbone=dict(
        plugins=[dict(cfg=dict(type='SEAttention', ratio=16), position='fuse', branches=(0,))]
    )
)
