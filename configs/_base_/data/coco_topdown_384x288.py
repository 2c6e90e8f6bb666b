_base_ = ['./coco_topdown_256x192.py']

codec = dict(_base_.codec, input_size=(288, 384), heatmap_size=(72, 96), sigma=3)
affine = dict(_base_.affine, input_size=codec['input_size'])
target = [affine, dict(type='GenerateTarget', encoder=codec), _base_.pack]

train_dataloader = dict(dataset=dict(pipeline=[*_base_.before, *_base_.augment, *target]))
val_dataloader = dict(dataset=dict(pipeline=[*_base_.load, affine, _base_.pack]))
test_dataloader = val_dataloader
