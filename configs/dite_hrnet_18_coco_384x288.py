_base_ = ['./litehrnet_18_coco_384x288.py']

model = dict(backbone=dict(type='DiteHRNet'))
train_cfg = dict(max_epochs=270)
