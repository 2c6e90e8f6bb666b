# multi-scale test of higherhrnet_w32_coco_512 (and of its checkpoints)
_base_ = ['./higherhrnet_w32_coco_512.py']

model = dict(test_cfg=dict(multiscale_test=True))
val_pipeline = [
    dict(type='LoadPoseImage'),
    dict(type='BottomupMultiScaleResize', input_size=(512, 512), scales=(0.5, 1, 2)),
    dict(type='PackBottomupInputs'),
]
val_dataloader = dict(dataset=dict(pipeline=val_pipeline))
test_dataloader = val_dataloader
