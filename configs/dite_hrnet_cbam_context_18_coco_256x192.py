# CBAM inside every DMC block, on the half of the channels that the context modelling changed.
# No paper's network.
_base_ = ['./dite_hrnet_18_coco_256x192.py']

cbam = dict(type='CBAMAttention', ratio=16)
model = dict(backbone=dict(plugins=[dict(cfg=cbam, position='after_context')]))
