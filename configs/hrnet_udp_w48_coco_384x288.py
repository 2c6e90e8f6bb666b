_base_ = [
    './_base_/default_runtime.py',
    './_base_/models/hrnet_w48.py',
    './_base_/data/coco_topdown_udp_384x288.py',
    './_base_/schedules/hrnet_210e.py',
]

model = dict(head=dict(decoder=_base_.codec), test_cfg=dict(shift_heatmap=False))
# the official batch at this size: 4 GPUs x 24
train_dataloader = dict(batch_size=24)
auto_scale_lr = dict(base_batch_size=96)
