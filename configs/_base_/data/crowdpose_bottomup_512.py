# bottom-up
_base_ = ['./coco_bottomup_512.py', './crowdpose.py']

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

data_root = _base_.crowdpose.test.data_root
dataset_type = _base_.crowdpose.test.type
train_dataloader = dict(dataset=dict(_base_.crowdpose.train, pipeline=train_pipeline))
val_dataloader = dict(dataset=_base_.crowdpose.test)
test_dataloader = val_dataloader

val_evaluator = _base_.crowdpose.evaluator
test_evaluator = val_evaluator
