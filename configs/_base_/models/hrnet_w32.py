# HRNet-W32, top-down: heatmaps from the highest resolution (arXiv 1902.09212)
_base_ = ['./hrnet_w32_backbone.py']

model = dict(
    type='CheckedTopdownPoseEstimator',
    data_preprocessor=dict(type='PoseDataPreprocessor'),
    head=dict(
        type='HeatmapHead',
        in_channels=32,
        out_channels=17,
        deconv_out_channels=None,
        loss=dict(type='KeypointMSELoss', use_target_weight=True),
    ),
    # True logs the training accuracy, for which every step waits for the GPU and copies its maps
    train_cfg=dict(compute_acc=False),
    test_cfg=dict(flip_test=True, flip_mode='heatmap', shift_heatmap=True),
)
