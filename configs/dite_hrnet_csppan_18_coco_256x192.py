# CSP-PAN (arXiv 2111.00902) in place of the iterative head: what comes of every branch, 40 channels
# wide, is joined at the highest resolution. No paper's network.
_base_ = ['./dite_hrnet_18_coco_256x192.py']

model = dict(
    backbone=dict(all_branches=True, extra=dict(with_head=False)),
    neck=dict(type='CSPPAN', in_channels=[40, 80, 160, 320], concat=True),
    head=dict(in_channels=160),
)
