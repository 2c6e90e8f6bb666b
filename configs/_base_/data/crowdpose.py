# What CrowdPose, 14 joints, replaces of COCO. Set CROWDPOSE_ROOT, or link data/crowdpose.
crowdpose = dict(
    train=dict(
        type='CheckedCrowdPoseDataset',
        data_root='{{$CROWDPOSE_ROOT:data/crowdpose}}',
        ann_file='annotations/mmpose_crowdpose_trainval.json',
        data_prefix=dict(img='images/'),
    ),
    test=dict(
        type='CheckedCrowdPoseDataset',
        data_root='{{$CROWDPOSE_ROOT:data/crowdpose}}',
        ann_file='annotations/mmpose_crowdpose_test.json',
        data_prefix=dict(img='images/'),
    ),
    evaluator=dict(
        ann_file='{{$CROWDPOSE_ROOT:data/crowdpose}}/annotations/mmpose_crowdpose_test.json',
        use_area=False,
        iou_type='keypoints_crowd',
        prefix='crowdpose',
    ),
)
