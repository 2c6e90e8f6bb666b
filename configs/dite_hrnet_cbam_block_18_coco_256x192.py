# CBAM on what leaves every DMC block, which has gates of channels and none of places.
# No paper's network.
_base_ = ['./dite_hrnet_18_coco_256x192.py']

cbam = dict(type='CBAMAttention', ratio=16)
model = dict(backbone=dict(plugins=[dict(cfg=cbam, position='block')]))
