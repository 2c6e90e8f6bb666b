# Table I of the CAM/SAM paper: all sub-networks
_base_ = ['./hrnet_camsam_w32_coco_256x192.py']

sites = dict(cfg=_base_.cam_sam, position='transition')
model = dict(backbone=dict(plugins=[sites]))
