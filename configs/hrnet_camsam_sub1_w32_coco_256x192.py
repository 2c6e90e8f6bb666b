# Table I of the CAM/SAM paper: sub-network 1
_base_ = ['./hrnet_camsam_w32_coco_256x192.py']

sites = dict(cfg=_base_.cam_sam, position='transition', branches=(0,))
model = dict(backbone=dict(plugins=[sites]))
