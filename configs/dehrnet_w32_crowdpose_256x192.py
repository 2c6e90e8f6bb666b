_base_ = ['./hrnet_w32_crowdpose_256x192.py', './_base_/recipes/de_hrnet.py']

model = dict(backbone=_base_.de_hrnet)
train_dataloader = dict(
    dataset=dict(pipeline=[*_base_.before, *_base_.de_hrnet_augment, *_base_.target])
)
