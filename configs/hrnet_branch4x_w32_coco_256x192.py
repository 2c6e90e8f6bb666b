# heatmaps from the third branch, stride 16 (the HRNet paper's figure 5)
_base_ = ['./hrnet_w32_coco_256x192.py']

codec = dict(_base_.codec, heatmap_size=(12, 16))
target = [_base_.affine, dict(type='GenerateTarget', encoder=codec), _base_.pack]

model = dict(backbone=dict(out_branch=2), head=dict(in_channels=128, decoder=codec))
train_dataloader = dict(dataset=dict(pipeline=[*_base_.before, *_base_.augment, *target]))
