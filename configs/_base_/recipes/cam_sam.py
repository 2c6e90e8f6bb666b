# The CAM/SAM paper's module, its places in the proposed model (sub-network 1, and stage 1) and
# its augmentation. A "sub-network" is a branch, a "stage" the transition behind it.
cam_sam = dict(type='CAMSAMAttention', ratio=16)
cam_sam_plugins = [
    dict(cfg=cam_sam, position='transition', branches=(0,)),
    dict(cfg=cam_sam, position='transition', stages=(1,), branches=(1,)),
]
cam_sam_augment = [
    dict(type='RandomBBoxTransform', shift_prob=0, scale_factor=(0.7, 1.3), rotate_factor=40)
]
