# MPII, 16 joints, bottom-up. Set MPII_ROOT, or link data/mpii. No paper's: docs/higherhrnet.md
# says what the metric is.
_base_ = ['./coco_bottomup_512.py']

data_root = '{{$MPII_ROOT:data/mpii}}'

codec = dict(
    _base_.codec,
    # head and torso, then shoulders, hips, elbows, wrists, knees, ankles
    decode_keypoint_order=[9, 8, 7, 6, 13, 12, 3, 2, 14, 11, 15, 10, 4, 1, 5, 0],
)

train_pipeline = [
    dict(step, encoder=codec) if 'encoder' in step else step for step in _base_.train_pipeline
]

dataset_type = 'BottomupMpiiDataset'
mpii = dict(type=dataset_type, data_root=data_root, data_prefix=dict(img='images/'))
train_dataloader = dict(
    dataset=dict(mpii, ann_file='annotations/mpii_train.json', pipeline=train_pipeline)
)
val_dataloader = dict(
    dataset=dict(
        mpii,
        ann_file='annotations/mpii_val.json',
        headbox_file=data_root + '/annotations/mpii_gt_val.mat',
    )
)
test_dataloader = val_dataloader

val_evaluator = dict(_delete_=True, type='MpiiMultiPersonAP')
test_evaluator = val_evaluator
