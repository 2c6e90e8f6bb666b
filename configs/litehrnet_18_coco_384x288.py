_base_ = [
    './_base_/default_runtime.py',
    './_base_/models/litehrnet_18.py',
    './_base_/data/coco_topdown_384x288.py',
    './_base_/schedules/litehrnet_210e.py',
    './_base_/recipes/lite_hrnet.py',
]

model = dict(head=dict(decoder=_base_.codec))
train_dataloader = dict(
    dataset=dict(pipeline=[*_base_.before, *_base_.lite_hrnet_augment, *_base_.target])
)
