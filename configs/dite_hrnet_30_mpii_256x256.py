_base_ = ['./dite_hrnet_18_mpii_256x256.py']

model = dict(backbone=dict(extra=dict(stages_spec=dict(num_modules=(3, 8, 3)))))
