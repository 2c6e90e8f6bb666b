# row (a) of the HRNet paper's Table 6: the last fusion alone
_base_ = ['./hrnet_scratch_w32_coco_256x192.py']

model = dict(backbone=dict(fusion='final'))
