_base_ = ['./higherhrnet_w32_mpii_512.py']

model = dict(backbone=dict(plugins=[dict(cfg=dict(type='SEAttention', ratio=16), position='stem')]))
