"""MMPose's visualizer, where it would fail on this package's data or on today's NumPy."""

from typing import Any

import numpy as np
from mmpose.registry import VISUALIZERS
from mmpose.structures import MultilevelPixelData
from mmpose.visualization import PoseLocalVisualizer


@VISUALIZERS.register_module()
class AttnPoseVisualizer(PoseLocalVisualizer):
    """MMPose's ``PoseLocalVisualizer`` that also draws heatmaps of several resolutions.

    MMPose 1.3.2 gives radii of keypoints as arrays, which NumPy 2.4 does not
    convert to numbers any more: without this class, drawing keypoints ends in a
    TypeError in ``MMPoseInferencer``, in ``test.py --show-dir`` and in
    ``browse_dataset``. Takes the arguments of its parent.
    """

    def draw_circles(self, center: Any, radius: Any, *args, **kwargs) -> None:
        if self.backend == 'opencv':  # matplotlib wants the array
            radius = np.asarray(radius).item()
        super().draw_circles(center, radius, *args, **kwargs)

    def _draw_instance_heatmap(
        self, fields: Any, overlaid_image: np.ndarray | None = None
    ) -> np.ndarray | None:
        if isinstance(fields, MultilevelPixelData):
            fields = fields[fields.nlevel - 1]  # the finest
        return super()._draw_instance_heatmap(fields, overlaid_image)
