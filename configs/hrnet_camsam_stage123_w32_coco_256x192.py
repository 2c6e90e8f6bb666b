# Table I of the CAM/SAM paper: stages 1 to 3, the same network as all sub-networks
_base_ = ['./hrnet_camsam_all_w32_coco_256x192.py']
