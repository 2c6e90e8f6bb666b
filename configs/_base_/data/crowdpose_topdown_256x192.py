# top-down. Boxes to test with: as for COCO
_base_ = ['./coco_topdown_256x192.py', './crowdpose.py']

data_root = _base_.crowdpose.test.data_root
dataset_type = 'CrowdPoseDataset'
train_dataloader = dict(dataset=_base_.crowdpose.train)
val_dataloader = dict(
    dataset=dict(
        _base_.crowdpose.test,
        bbox_file=data_root + '/annotations/det_for_crowd_test_0.1_0.5.json',
    )
)
test_dataloader = val_dataloader

val_evaluator = _base_.crowdpose.evaluator
test_evaluator = val_evaluator
