# row (b) of the HRNet paper's Table 6: fusion across stages, not within
_base_ = ['./hrnet_scratch_w32_coco_256x192.py']

model = dict(backbone=dict(fusion='stages'))
