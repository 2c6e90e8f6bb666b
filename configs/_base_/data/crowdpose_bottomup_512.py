# bottom-up
_base_ = ['./coco_bottomup_512.py', './crowdpose.py']

codec = dict(
    _base_.codec,
    # neck, head, shoulders, hips, elbows, wrists, knees, ankles
    decode_keypoint_order=[13, 12, 0, 1, 6, 7, 2, 3, 4, 5, 8, 9, 10, 11],
)

train_pipeline = [
    dict(step, encoder=codec) if 'encoder' in step else step for step in _base_.train_pipeline
]

data_root = _base_.crowdpose.test.data_root
dataset_type = _base_.crowdpose.test.type
train_dataloader = dict(dataset=dict(_base_.crowdpose.train, pipeline=train_pipeline))
val_dataloader = dict(dataset=_base_.crowdpose.test)
test_dataloader = val_dataloader

val_evaluator = _base_.crowdpose.evaluator
test_evaluator = val_evaluator
