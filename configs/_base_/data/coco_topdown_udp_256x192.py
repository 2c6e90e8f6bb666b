# UDP, unbiased data processing (arXiv 1911.07524)
_base_ = ['./coco_topdown_256x192.py']

codec = dict(_base_.codec, type='UDPHeatmap')
affine = dict(_base_.affine, use_udp=True)
target = [affine, dict(type='GenerateTarget', encoder=codec), _base_.pack]

train_dataloader = dict(dataset=dict(pipeline=[*_base_.before, *_base_.augment, *target]))
val_dataloader = dict(dataset=dict(pipeline=[*_base_.load, affine, _base_.pack]))
test_dataloader = val_dataloader
