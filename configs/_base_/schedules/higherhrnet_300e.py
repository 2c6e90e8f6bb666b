# the official recipe: Adam without weight decay, no warm-up, 48 images a step
# (4 GPUs x 12); mim train ... --auto-scale-lr for another total
train_cfg = dict(by_epoch=True, max_epochs=300, val_interval=10)
optim_wrapper = dict(optimizer=dict(type='Adam', lr=1e-3))
param_scheduler = [
    dict(type='MultiStepLR', begin=0, end=300, milestones=[200, 260], gamma=0.1, by_epoch=True)
]
auto_scale_lr = dict(base_batch_size=48)
