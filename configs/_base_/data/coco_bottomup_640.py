_base_ = ['./coco_bottomup_512.py']

codec = dict(_base_.codec, input_size=(640, 640), heatmap_size=[(160, 160), (320, 320)])

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
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=val_pipeline))
test_dataloader = val_dataloader
