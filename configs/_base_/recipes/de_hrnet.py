# The DE-HRNet paper's augmentation
de_hrnet_augment = [
    dict(type='RandomHalfBody'),
    dict(type='RandomBBoxTransform', shift_prob=0, scale_factor=(0.68, 1.32), rotate_factor=45),
]
