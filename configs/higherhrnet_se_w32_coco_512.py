_base_ = [
    './_base_/default_runtime.py',
    './_base_/models/higherhrnet_w32.py',
    './_base_/data/coco_bottomup_512.py',
    './_base_/schedules/higherhrnet_finetune_40e.py',
]

# SE between the stem's first two convolutions. identity_init=True in the cfg starts it
# as an exact identity, so that step 0 equals the checkpoint; the paper's gate starts near 0.5.
model = dict(
    backbone=dict(
        plugins=[dict(cfg=dict(type='SEAttention', ratio=16), position='stem')],
        # load_from brings the whole network
        init_cfg=dict(_delete_=True, type='Normal', std=0.001, layer=['Conv2d']),
    ),
    # maps are brought to input size before decoding
    head=dict(decoder=dict(_base_.codec, heatmap_size=_base_.codec.input_size)),
)
train_dataloader = dict(batch_size=32)
custom_hooks = [dict(type='SyncBuffersHook'), dict(type='FinetuneCheckHook')]
