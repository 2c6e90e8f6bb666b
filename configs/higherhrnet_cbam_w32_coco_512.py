# CE-HigherHRNet as the SE paper describes it: CBAM after multi-scale fusion. Nothing else
# of it is public; the recipe is the SE paper's, for comparison.
_base_ = ['./higherhrnet_se_w32_coco_512.py']

model = dict(
    backbone=dict(plugins=[dict(cfg=dict(type='CBAMAttention', ratio=16), position='fuse')])
)
