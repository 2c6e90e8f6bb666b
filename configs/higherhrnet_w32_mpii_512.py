_base_ = [
    './_base_/default_runtime.py',
    './_base_/models/higherhrnet_w32.py',
    './_base_/data/mpii_bottomup_512.py',
    './_base_/schedules/higherhrnet_300e.py',
]

model = dict(
    head=dict(
        num_keypoints=16,
        # maps are brought to input size before decoding
        decoder=dict(_base_.codec, heatmap_size=_base_.codec.input_size),
    ),
    # a COCO checkpoint may start it: its 17-joint output layers stay behind
    partial_load=('head.final_layers', 'head.deconv_layers.0.0.0'),
)
default_hooks = dict(checkpoint=dict(save_best='mpii/AP'))
