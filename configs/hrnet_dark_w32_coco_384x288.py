_base_ = [
    './_base_/default_runtime.py',
    './_base_/models/hrnet_w32.py',
    './_base_/data/coco_topdown_dark_384x288.py',
    './_base_/schedules/hrnet_210e.py',
]

model = dict(head=dict(decoder=_base_.codec))
