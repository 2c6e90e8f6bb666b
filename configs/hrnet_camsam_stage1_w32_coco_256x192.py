# Table I of the CAM/SAM paper: stage 1
_base_ = ['./hrnet_camsam_w32_coco_256x192.py']

sites = dict(cfg=_base_.cam_sam, position='transition', stages=(1,))
model = dict(backbone=dict(plugins=[sites]))
