# the SE paper's recipe: 40 epochs from a HigherHRNet COCO checkpoint, 32 images a step.
# Give the checkpoint (official or MMPose 0.x, as it is) by --cfg-options load_from=FILE,
# for example .../mmpose/bottom_up/higher_hrnet32_coco_512x512-8ae85183_20200713.pth
train_cfg = dict(by_epoch=True, max_epochs=40, val_interval=5)
optim_wrapper = dict(optimizer=dict(type='Adam', lr=1e-3))
param_scheduler = [
    dict(type='MultiStepLR', begin=0, end=40, milestones=[20, 30], gamma=0.1, by_epoch=True)
]
auto_scale_lr = dict(base_batch_size=32)
