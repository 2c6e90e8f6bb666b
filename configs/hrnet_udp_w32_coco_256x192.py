_base_ = [
    './_base_/default_runtime.py',
    './_base_/models/hrnet_w32.py',
    './_base_/data/coco_topdown_udp_256x192.py',
    './_base_/schedules/hrnet_210e.py',
]

model = dict(head=dict(decoder=_base_.codec), test_cfg=dict(shift_heatmap=False))
