"""MMPose's MPII, which names what is wrong with its files."""

from mmpose.datasets.datasets import MpiiDataset
from mmpose.registry import DATASETS

from mmpose_attn.files import read_json

from .annotations import Report, examine_mpii, find_images
from .metainfo import CheckedMetainfo
from .places import check_files


@DATASETS.register_module()
class CheckedMpiiDataset(CheckedMetainfo, MpiiDataset):
    """:class:`mmpose.datasets.MpiiDataset` that checks its files, and counts pixels as images do.

    MPII's coordinates start at 1. MMPose moves the boxes to 0, but not the
    keypoints, so that a network learns them one pixel off, and then adds 1 to
    its predictions before it compares them. Here training keypoints start at
    0, as in the HRNet authors' code; those that are tested with still start
    at 1, as the metric expects.

    Raises:
        FileNotFoundError: if a file or the image folder is not there.
        ValueError: if the annotations are not MPII's, have nobody, or are not
            those of the head boxes, or an image is not there.
    """

    def _load_annotations(self) -> tuple[list[dict], list[dict]]:
        check_files(self, 'head box', self.headbox_file)
        file = f'annotation file {self.ann_file}'
        if self.headbox_file:
            file += f' with head boxes {self.headbox_file}'
        report = Report(file)
        people = read_json(self.ann_file, 'annotation file', nan=True)
        examine_mpii(people, self._metainfo['num_keypoints'], report)
        report.raise_problems()
        try:
            instances, images = super()._load_annotations()
        except Exception as error:  # of SciPy, for what is no .mat file, or one of something else
            raise ValueError(
                f'{file}: the head boxes are not those of these {len(people)} people: '
                f'headboxes_src of MPII has (2, 2, {len(people)}) numbers'
            ) from error
        heads = self.headbox_dict['headboxes_src'].shape[2] if self.headbox_file else len(people)
        if not people or heads != len(people):
            raise ValueError(f'{file}: {len(people)} people and {heads} head boxes')
        if self._indices is None:
            names = {
                person['image']: dict(id=person['image'], file_name=person['image'])
                for person in people
            }
            find_images(list(names.values()), self.data_prefix['img'], report)
            report.raise_problems()
        if not self.test_mode:
            for info in instances:
                info['keypoints'] -= 1
        return instances, images
