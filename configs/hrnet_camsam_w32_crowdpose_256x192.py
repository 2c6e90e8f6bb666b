_base_ = ['./hrnet_w32_crowdpose_256x192.py', './_base_/recipes/cam_sam.py']

model = dict(backbone=dict(plugins=_base_.cam_sam_plugins))
train_dataloader = dict(
    batch_size=4,
    dataset=dict(pipeline=[*_base_.before, *_base_.cam_sam_augment, *_base_.target]),
)
auto_scale_lr = dict(base_batch_size=4)
