# HigherHRNet-W32 (arXiv 1908.10357), the official network
model = dict(
    _scope_='mmpose',  # whatever the scope of the caller, such as MMPoseInferencer's
    type='HigherHRNetEstimator',
    data_preprocessor=dict(
        type='BottomupDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
    ),
    backbone=dict(
        type='AttnHRNet',
        in_channels=3,
        extra=dict(
            stage1=dict(
                num_modules=1,
                num_branches=1,
                block='BOTTLENECK',
                num_blocks=(4,),
                num_channels=(64,),
            ),
            stage2=dict(
                num_modules=1,
                num_branches=2,
                block='BASIC',
                num_blocks=(4, 4),
                num_channels=(32, 64),
            ),
            stage3=dict(
                num_modules=4,
                num_branches=3,
                block='BASIC',
                num_blocks=(4, 4, 4),
                num_channels=(32, 64, 128),
            ),
            stage4=dict(
                num_modules=3,
                num_branches=4,
                block='BASIC',
                num_blocks=(4, 4, 4, 4),
                num_channels=(32, 64, 128, 256),
            ),
        ),
        init_cfg=dict(
            type='Pretrained',
            checkpoint='https://download.openmmlab.com/mmpose/'
            'pretrain_models/hrnet_w32-36af842e.pth',
        ),
    ),
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
