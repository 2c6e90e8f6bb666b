# bottom-up
_base_ = ['./coco.py']

codec = dict(
    type='HigherHRNetCodec',
    input_size=(512, 512),
    heatmap_size=[(128, 128), (256, 256)],
    sigma=2,
    max_people=30,
    decode_keypoint_order=[0, 1, 2, 3, 4, 5, 6, 11, 12, 7, 8, 9, 10, 13, 14, 15, 16],
    decode_keypoint_thr=0.1,
    decode_tag_thr=1.0,
    decode_nms_kernel=5,
    decode_topk=30,
    decode_center_shift=0.5,
    decode_max_instances=30,
    decode_fill='official',
)

train_pipeline = [
    dict(type='LoadPoseImage', skip_corrupt=True),
    dict(type='BottomupUniformAffine', input_size=codec['input_size']),
    dict(type='RandomFlip', direction='horizontal'),
    dict(type='GenerateTarget', encoder=codec),
    dict(type='BottomupCrowdMask'),
    dict(type='PackBottomupInputs'),
]
val_pipeline = [
    dict(type='LoadPoseImage'),
    dict(type='BottomupMultiScaleResize', input_size=codec['input_size'], scales=(1,)),
    dict(type='PackBottomupInputs'),
]

data_mode = 'bottomup'  # asked for by MMPoseInferencer
train_dataloader = dict(batch_size=12, dataset=dict(data_mode=data_mode, pipeline=train_pipeline))
val_dataloader = dict(batch_size=1, dataset=dict(data_mode=data_mode, pipeline=val_pipeline))
test_dataloader = val_dataloader

val_evaluator = dict(nms_mode='none', score_mode='bbox')
test_evaluator = val_evaluator
