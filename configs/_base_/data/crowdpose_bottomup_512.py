# CrowdPose, 14 joints, bottom-up. Set CROWDPOSE_ROOT, or link data/crowdpose.
_base_ = ['./coco_bottomup_512.py']

data_root = '{{$CROWDPOSE_ROOT:data/crowdpose}}'

codec = dict(
    _base_.codec,
    # neck, head, shoulders, hips, elbows, wrists, knees, ankles
    decode_keypoint_order=[13, 12, 0, 1, 6, 7, 2, 3, 4, 5, 8, 9, 10, 11],
)

train_pipeline = [
    dict(type='LoadPoseImage', skip_corrupt=True),
    dict(type='BottomupUniformAffine', input_size=codec['input_size']),
    dict(type='RandomFlip', direction='horizontal'),
    dict(type='GenerateTarget', encoder=codec),
    dict(type='BottomupCrowdMask'),
    dict(type='PackBottomupInputs'),
]

dataset_type = 'CheckedCrowdPoseDataset'
train_dataloader = dict(
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        ann_file='annotations/mmpose_crowdpose_trainval.json',
        data_prefix=dict(img='images/', _delete_=True),
        pipeline=train_pipeline,
    )
)
val_dataloader = dict(
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        ann_file='annotations/mmpose_crowdpose_test.json',
        data_prefix=dict(img='images/', _delete_=True),
    )
)
test_dataloader = val_dataloader

val_evaluator = dict(
    type='CocoMetric',
    ann_file=data_root + '/annotations/mmpose_crowdpose_test.json',
    use_area=False,
    iou_type='keypoints_crowd',
    prefix='crowdpose',
    nms_mode='none',
    score_mode='bbox',
)
test_evaluator = val_evaluator
