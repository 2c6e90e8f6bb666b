# without ImageNet weights; row (c) of the HRNet paper's Table 6: fusion across and within stages
_base_ = ['./hrnet_w32_coco_256x192.py']

model = dict(
    backbone=dict(init_cfg=dict(_delete_=True, type='Normal', std=0.001, layer=['Conv2d']))
)
