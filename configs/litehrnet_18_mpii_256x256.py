_base_ = [
    './_base_/default_runtime.py',
    './_base_/models/litehrnet_18.py',
    './_base_/data/mpii_topdown_256x256.py',
    './_base_/schedules/litehrnet_210e.py',
]

model = dict(head=dict(out_channels=16, decoder=_base_.codec))
default_hooks = dict(checkpoint=dict(save_best='PCK'))
