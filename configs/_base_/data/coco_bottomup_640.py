_base_ = ['./coco_bottomup_512.py']

codec = dict(_base_.codec, input_size=(640, 640), heatmap_size=[(160, 160), (320, 320)])

# the same pipelines with this codec
train_pipeline = [
    dict(step, input_size=codec['input_size']) if 'input_size' in step else step
    for step in _base_.train_pipeline
]
train_pipeline = [
    dict(step, encoder=codec) if 'encoder' in step else step for step in train_pipeline
]
val_pipeline = [
    dict(step, input_size=codec['input_size']) if 'input_size' in step else step
    for step in _base_.val_pipeline
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=val_pipeline))
test_dataloader = val_dataloader
