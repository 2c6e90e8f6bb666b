# UDP-Pose-PSA(p): polarized self-attention after the first ReLU of every BasicBlock
_base_ = ['./hrnet_udp_w48_coco_384x288.py']

psa = dict(type='PolarizedAttention', layout='parallel')
model = dict(backbone=dict(plugins=[dict(cfg=psa, position='after_conv1', stages=(2, 3, 4))]))
