# The DE-HRNet paper's network, as far as it is known, and augmentation. Where its enhancement stands
# was measured: docs/results/de_hrnet_start.md
de_hrnet = dict(type='DEHRNet', dem_position='stage_end')
de_hrnet_augment = [
    dict(type='RandomHalfBody'),
    dict(type='RandomBBoxTransform', shift_prob=0, scale_factor=(0.68, 1.32), rotate_factor=45),
]
