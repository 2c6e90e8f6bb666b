# HigherHRNet-W32 (arXiv 1908.10357), the official network
_base_ = ['./hrnet_w32_backbone.py']

model = dict(
    type='HigherHRNetEstimator',
    data_preprocessor=dict(type='BottomupDataPreprocessor'),
    head=dict(
        type='HigherHRNetHead',
        in_channels=32,
        num_keypoints=17,
        deconv_out_channels=(32,),
        deconv_kernel_sizes=(4,),
        num_basic_blocks=4,
        heatmap_loss=dict(type='KeypointMSELoss'),
        tag_loss=dict(type='BatchedAssociativeEmbeddingLoss', pull_weight=0.001, push_weight=0.001),
    ),
    test_cfg=dict(
        multiscale_test=False,
        flip_test=True,
        shift_heatmap=False,
        restore_heatmap_size=True,
        stage_resize='official',
        align_corners=False,
    ),
)
