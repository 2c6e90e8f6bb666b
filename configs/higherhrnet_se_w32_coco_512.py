_base_ = ['./higherhrnet_w32_coco_512_finetune.py']

# SE between the stem's first two convolutions. identity_init=True in the cfg starts it
# as an exact identity, so that step 0 equals the checkpoint; the paper's gate starts near 0.5.
model = dict(backbone=dict(plugins=[dict(cfg=dict(type='SEAttention', ratio=16), position='stem')]))
