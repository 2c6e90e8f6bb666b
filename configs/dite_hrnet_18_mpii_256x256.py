_base_ = ['./litehrnet_18_mpii_256x256.py']

model = dict(backbone=dict(type='DiteHRNet'))
train_cfg = dict(max_epochs=260)
