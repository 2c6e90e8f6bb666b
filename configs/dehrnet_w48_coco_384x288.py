_base_ = ['./hrnet_w48_coco_384x288.py', './_base_/recipes/de_hrnet.py']

model = dict(backbone=_base_.de_hrnet)
train_dataloader = dict(
    batch_size=32, dataset=dict(pipeline=[*_base_.before, *_base_.de_hrnet_augment, *_base_.target])
)
auto_scale_lr = dict(base_batch_size=128)
