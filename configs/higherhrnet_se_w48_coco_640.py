_base_ = ['./higherhrnet_w48_coco_640.py']

model = dict(backbone=dict(plugins=[dict(cfg=dict(type='SEAttention', ratio=16), position='stem')]))
