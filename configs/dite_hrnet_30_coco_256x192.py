_base_ = ['./dite_hrnet_18_coco_256x192.py']

model = dict(backbone=dict(extra=dict(stages_spec=dict(num_modules=(3, 8, 3)))))
