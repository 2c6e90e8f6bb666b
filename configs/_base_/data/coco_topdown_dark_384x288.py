# DARK, distribution-aware coordinates (arXiv 1910.06278)
_base_ = ['./coco_topdown_384x288.py']

codec = dict(_base_.codec, unbiased=True)
target = [_base_.affine, dict(type='GenerateTarget', encoder=codec), _base_.pack]

train_dataloader = dict(dataset=dict(pipeline=[*_base_.before, *_base_.augment, *target]))
