"""MMPose's drawing of keypoints and heatmaps, with this package's data."""

import numpy as np
import pytest
import torch
from mmengine.structures import InstanceData
from mmpose.datasets.datasets.utils import parse_pose_metainfo
from mmpose.registry import VISUALIZERS
from mmpose.structures import MultilevelPixelData, PoseDataSample


def sample():
    """One person across an image of 80x60 pixels, with targets of two resolutions."""
    x = np.linspace(10, 70, 17)
    points = np.stack((x, np.linspace(10, 50, 17)), 1)[None]
    sample = PoseDataSample()
    sample.gt_instances = InstanceData(keypoints=points, keypoints_visible=np.ones((1, 17)))
    coarse, fine = torch.zeros(17, 15, 20), torch.zeros(17, 30, 40)
    fine[:, 10:20, 10:20] = 1
    sample.gt_fields = MultilevelPixelData(heatmaps=[coarse, fine])
    return sample


@pytest.mark.parametrize('backend', ['opencv', 'matplotlib'])
def test_keypoints_and_the_finest_heatmap_are_drawn(backend, mmpose_scope):
    visualizer = VISUALIZERS.build(
        dict(type='AttnPoseVisualizer', name=f'test_{backend}', backend=backend)
    )
    meta = parse_pose_metainfo(dict(from_file='configs/_base_/datasets/coco.py'))
    visualizer.set_dataset_meta(meta)
    image = np.full((60, 80, 3), 90, np.uint8)
    drawn = visualizer.add_datasample('a', image, sample(), draw_pred=False, draw_heatmap=True)
    assert drawn.shape == (120, 80, 3)
    people, heat = np.split(drawn.astype(int), 2)
    assert (people[10, 10] != 90).any() and (people[50, 70] != 90).any()
    assert (people[50, 10] == 90).all()
    # red where the target is, blue elsewhere
    assert heat[30, 30, 0] > heat[30, 30, 2] and heat[5, 5, 0] < heat[5, 5, 2]
