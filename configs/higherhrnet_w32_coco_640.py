_base_ = [
    './_base_/default_runtime.py',
    './_base_/models/higherhrnet_w32.py',
    './_base_/data/coco_bottomup_640.py',
    './_base_/schedules/higherhrnet_300e.py',
]

# maps are brought to input size before decoding
model = dict(head=dict(decoder=dict(_base_.codec, heatmap_size=_base_.codec.input_size)))
