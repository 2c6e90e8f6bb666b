_base_ = ['./litehrnet_18_coco_384x288.py']

model = dict(backbone=dict(extra=dict(stages_spec=dict(num_modules=(3, 8, 3)))))
