# Lite-HRNet's augmentation, which is Dite-HRNet's (on MPII without half bodies)
lite_hrnet_augment = [
    dict(type='RandomHalfBody'),
    dict(type='RandomBBoxTransform', shift_prob=0, scale_factor=(0.75, 1.25), rotate_factor=30),
]
