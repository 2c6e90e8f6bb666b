# UDP-Pose-PSA(s): channel, then spatial attention
_base_ = ['./hrnet_udp_psa_w48_coco_384x288.py']

psa = dict(_base_.psa, layout='sequential')
model = dict(backbone=dict(plugins=[dict(cfg=psa, position='after_conv1', stages=(2, 3, 4))]))
