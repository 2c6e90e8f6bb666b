# Trains in minutes on a CPU core: the first 2,560 images of Leeds Sports Pose Extended, whose joints
# are COCO's without the face. LSPET_ROOT, or data/lspet, holds lspet_{train,val}.json and images/.
_base_ = ['./dite_hrnet_18_coco_256x192.py']

data_root = '{{$LSPET_ROOT:data/lspet}}'

codec = dict(_base_.codec, input_size=(96, 96), heatmap_size=(24, 24))
model = dict(head=dict(decoder=codec))
affine = dict(_base_.affine, input_size=codec['input_size'])
target = [affine, dict(type='GenerateTarget', encoder=codec), _base_.pack]

# on few cores a worker takes from the convolutions more than it gives
workers = dict(num_workers=0, persistent_workers=False)
data = dict(data_root=data_root, data_prefix=dict(img='images/'))
train_dataloader = dict(
    batch_size=16,
    dataset=dict(
        data,
        ann_file='lspet_train.json',
        indices=2560,
        serialize_data=False,  # or MMEngine refuses sets of fewer
        pipeline=[*_base_.before, *_base_.lite_hrnet_augment, *target],
    ),
    **workers,
)
val_dataloader = dict(
    dataset=dict(
        data,
        ann_file='lspet_val.json',
        bbox_file=None,
        pipeline=[*_base_.load, affine, _base_.pack],
    ),
    **workers,
)
test_dataloader = val_dataloader
# of the longer side of the person's box
val_evaluator = dict(_delete_=True, type='PCKAccuracy', thr=0.2)
test_evaluator = val_evaluator

# the recipe's rate, with warm-up and steps at about its places in a far shorter training
train_cfg = dict(max_epochs=8, val_interval=4)
param_scheduler = [
    dict(type='LinearLR', begin=0, end=50, start_factor=0.001, by_epoch=False),
    dict(type='MultiStepLR', milestones=[5, 7], gamma=0.1, by_epoch=True),
]
default_hooks = dict(
    logger=dict(interval=10), checkpoint=dict(interval=1, max_keep_ckpts=2, save_best='PCK')
)
log_processor = dict(window_size=10)
custom_hooks = [dict(type='SyncBuffersHook'), dict(type='ChannelsLastHook')]
randomness = dict(seed=0)
