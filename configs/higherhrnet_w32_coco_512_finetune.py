# The SE paper's baseline: 40 more epochs from a HigherHRNet COCO checkpoint, without attention
_base_ = [
    './_base_/default_runtime.py',
    './_base_/models/higherhrnet_w32.py',
    './_base_/data/coco_bottomup_512.py',
    './_base_/schedules/higherhrnet_finetune_40e.py',
]

model = dict(
    # load_from brings the whole network
    backbone=dict(init_cfg=dict(_delete_=True, type='Normal', std=0.001, layer=['Conv2d'])),
    # maps are brought to input size before decoding
    head=dict(decoder=dict(_base_.codec, heatmap_size=_base_.codec.input_size)),
)
train_dataloader = dict(batch_size=32)
custom_hooks = [dict(type='SyncBuffersHook'), dict(type='FinetuneCheckHook')]
