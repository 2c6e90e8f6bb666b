# MPII, 16 joints, top-down by its own centres and scales. Set MPII_ROOT, or link data/mpii.
_base_ = ['./coco_topdown_256x192.py']

data_root = '{{$MPII_ROOT:data/mpii}}'

codec = dict(_base_.codec, input_size=(256, 256), heatmap_size=(64, 64))
# the official one for MPII, without half bodies
augment = [dict(_base_.augment[-1], scale_factor=(0.75, 1.25), rotate_factor=30)]
affine = dict(_base_.affine, input_size=codec['input_size'])
target = [affine, dict(type='GenerateTarget', encoder=codec), _base_.pack]

dataset_type = 'MpiiDataset'
train_dataloader = dict(
    dataset=dict(
        type='CheckedMpiiDataset',
        data_root=data_root,
        ann_file='annotations/mpii_train.json',
        data_prefix=dict(img='images/'),
        pipeline=[*_base_.before, *augment, *target],
    )
)
val_dataloader = dict(
    dataset=dict(
        type='CheckedMpiiDataset',
        data_root=data_root,
        ann_file='annotations/mpii_val.json',
        bbox_file=None,
        headbox_file=data_root + '/annotations/mpii_gt_val.mat',
        data_prefix=dict(img='images/'),
        pipeline=[*_base_.load, affine, _base_.pack],
    )
)
test_dataloader = val_dataloader

val_evaluator = dict(_delete_=True, type='MpiiPCKAccuracy')
test_evaluator = val_evaluator
