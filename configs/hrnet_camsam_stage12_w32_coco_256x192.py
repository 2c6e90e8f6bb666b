# Table I of the CAM/SAM paper: stages 1 and 2
_base_ = ['./hrnet_camsam_w32_coco_256x192.py']

sites = dict(cfg=_base_.cam_sam, position='transition', stages=(1, 2))
model = dict(backbone=dict(plugins=[sites]))
