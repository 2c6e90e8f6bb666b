# the HRNet recipe: Adam without weight decay, no warm-up, 128 people a step (4 GPUs x 32);
# mim train ... --auto-scale-lr for another total
train_cfg = dict(by_epoch=True, max_epochs=210, val_interval=10)
optim_wrapper = dict(optimizer=dict(type='Adam', lr=1e-3))
param_scheduler = [
    dict(type='MultiStepLR', begin=0, end=210, milestones=[170, 200], gamma=0.1, by_epoch=True)
]
auto_scale_lr = dict(base_batch_size=128)
