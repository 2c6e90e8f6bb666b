# top-down. Tested with the HRNet authors' person detections; with ground-truth boxes instead:
# --cfg-options val_dataloader.dataset.bbox_file=None test_dataloader.dataset.bbox_file=None
_base_ = ['./coco.py']

codec = dict(type='MSRAHeatmap', input_size=(192, 256), heatmap_size=(48, 64), sigma=2)

# the parts of the pipelines, for what inherits this and changes one
before = [
    dict(type='LoadPoseImage', skip_corrupt=True),
    dict(type='GetBBoxCenterScale'),
    dict(type='RandomFlip', direction='horizontal'),
]
augment = [
    dict(type='RandomHalfBody'),
    dict(type='RandomBBoxTransform', shift_prob=0, scale_factor=(0.65, 1.35), rotate_factor=45),
]
load = [dict(type='LoadPoseImage'), dict(type='GetBBoxCenterScale')]
affine = dict(type='TopdownAffine', input_size=codec['input_size'])
pack = dict(type='PackPoseInputs')
target = [affine, dict(type='GenerateTarget', encoder=codec), pack]

# asked for by MMPoseInferencer, which takes a detector of people for MMPose's own data sets
data_mode, dataset_type = 'topdown', 'CocoDataset'
train_dataloader = dict(
    batch_size=32, dataset=dict(data_mode=data_mode, pipeline=[*before, *augment, *target])
)
val_dataloader = dict(
    batch_size=32,
    dataset=dict(
        data_mode=data_mode,
        bbox_file=_base_.data_root
        + '/person_detection_results/COCO_val2017_detections_AP_H_56_person.json',
        pipeline=[*load, affine, pack],
    ),
)
test_dataloader = val_dataloader
