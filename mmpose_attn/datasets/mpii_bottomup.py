"""MPII for bottom-up networks."""

from mmpose.registry import DATASETS

from .mpii import CheckedMpiiDataset


@DATASETS.register_module()
class BottomupMpiiDataset(CheckedMpiiDataset):
    """MPII by the image, with all its annotated people.

    All coordinates start at 0, those that are tested with included, unlike top-down, where MMPose's
    metric counts from 1. Whom the file does not list is background: MPII marks no regions of people
    without annotation that could be masked out.

    Args:
        headbox_file: as for :class:`mmpose.datasets.MpiiDataset`, which takes it top-down alone.
        **kwargs: its other arguments.
    """

    def __init__(self, headbox_file: str | None = None, **kwargs) -> None:
        self._headboxes = headbox_file
        super().__init__(**dict(kwargs, data_mode='bottomup'))
        self.headbox_file = headbox_file  # of a data set that is not loaded yet, too

    def _load_annotations(self) -> tuple[list[dict], list[dict]]:
        self.headbox_file = self._headboxes
        instances, images = super()._load_annotations()
        for info in instances:
            if self.test_mode:
                info['keypoints'] -= 1
            info['num_keypoints'] = int((info['keypoints_visible'] > 0).sum())
        # people are grouped by image as far as these follow each other
        return sorted(instances, key=lambda info: info['img_id']), images
