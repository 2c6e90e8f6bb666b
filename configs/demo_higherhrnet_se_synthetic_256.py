# make demo: a small HigherHRNet-SE that learns synthetic people on two CPU cores in minutes
_base_ = [
    './_base_/default_runtime.py',
    './_base_/models/higherhrnet_w32.py',
    './_base_/data/coco_bottomup_512.py',
]

data_root = '{{$SYNTHETIC_ROOT:data/synthetic}}'

codec = dict(_base_.codec, input_size=(256, 256), heatmap_size=[(64, 64), (128, 128)])
model = dict(
    backbone=dict(
        extra=dict(
            stage1=dict(block='BASIC', num_blocks=(1,), num_channels=(32,)),
            stage2=dict(num_blocks=(1, 1), num_channels=(16, 32)),
            stage3=dict(num_modules=1, num_blocks=(1, 1, 1), num_channels=(16, 32, 64)),
            stage4=dict(num_modules=1, num_blocks=(1, 1, 1, 1), num_channels=(16, 32, 64, 128)),
        ),
        plugins=[dict(cfg=dict(type='SEAttention', ratio=16), position='stem')],
        init_cfg=dict(
            _delete_=True, type='Kaiming', layer='Conv2d', mode='fan_in', nonlinearity='relu'
        ),
    ),
    head=dict(
        in_channels=16,
        deconv_out_channels=(16,),
        num_basic_blocks=0,
        decoder=dict(codec, heatmap_size=codec['input_size']),
    ),
)

# the data are endless, so nothing is augmented but left and right
train_pipeline = [
    dict(type='LoadPoseImage'),
    dict(
        type='BottomupUniformAffine',
        input_size=codec['input_size'],
        rotate_factor=0.0,
        scale_factor=(1.0, 1.0),
        shift_factor=0.0,
    ),
    dict(type='RandomFlip', direction='horizontal'),
    dict(type='GenerateTarget', encoder=codec),
    dict(type='BottomupCrowdMask'),
    dict(type='PackBottomupInputs'),
]
val_pipeline = [
    dict(step, input_size=codec['input_size']) if 'input_size' in step else step
    for step in _base_.val_pipeline
]
# on two cores a worker takes from the convolutions more than it gives
workers = dict(num_workers=0, persistent_workers=False)
train_dataloader = dict(
    batch_size=8, dataset=dict(data_root=data_root, pipeline=train_pipeline), **workers
)
val_dataloader = dict(
    batch_size=8, dataset=dict(data_root=data_root, pipeline=val_pipeline), **workers
)
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + '/annotations/person_keypoints_val2017.json')
test_evaluator = val_evaluator

train_cfg = dict(by_epoch=True, max_epochs=4, val_interval=10)
optim_wrapper = dict(type='CPUAutocastOptimWrapper', optimizer=dict(type='Adam', lr=3e-3))
param_scheduler = [
    dict(type='LinearLR', begin=0, end=50, start_factor=0.05, by_epoch=False),
    dict(type='CosineAnnealingLR', begin=0, end=4, by_epoch=True, convert_to_iter_based=True),
]
custom_hooks = [dict(type='SyncBuffersHook'), dict(type='ChannelsLastHook')]
randomness = dict(seed=0)
