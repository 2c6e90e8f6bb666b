"""The bottom-up estimator that HigherHRNet needs, and its preprocessor."""

import torch
from mmpose.models.data_preprocessors import PoseDataPreprocessor
from mmpose.models.pose_estimators import BottomupPoseEstimator
from mmpose.registry import MODELS
from mmpose.utils.typing import ConfigType, ForwardResults, OptSampleList, SampleList
from torch import Tensor

from .partial_load import PartialLoad

Pyramid = list[Tensor]

# what training wrappers put before every key: DistributedDataParallel, and
# the official fp16 runs' nn.Sequential(tofp16, model, tofp32)
WRAPPERS = ('module.', '1.')
OFFICIAL_HEAD = ('final_layers.', 'deconv_layers.')


@MODELS.register_module()
class BottomupDataPreprocessor(PoseDataPreprocessor):
    """MMPose's preprocessor, also for images of several sizes and for pyramids.

    Images of one size give ``inputs`` (N, C, H, W) as always. Otherwise
    ``inputs`` is a list with, for every sample, the list of its scales'
    tensors (C, h, w): nothing is padded, so a result does not depend on what
    else is in the batch.
    """

    def forward(self, data: dict, training: bool = False) -> dict:
        inputs = data['inputs']
        if isinstance(inputs, Tensor):
            return super().forward(data, training)
        if isinstance(inputs[0], Tensor):
            if training or len({tuple(x.shape) for x in inputs}) == 1:
                return super().forward(data, training)
            samples = [[x] for x in inputs]
        else:
            # the collate function turns samples of scales into scales of samples
            samples = list(zip(*inputs, strict=True))
        data = self.cast_data(dict(data, inputs=[list(sample) for sample in samples]))
        for sample, data_sample in zip(data['inputs'], data['data_samples'], strict=True):
            sample[:] = [self._normalize(x) for x in sample]
            shape = tuple(data_sample.metainfo['img_shape'])
            data_sample.set_metainfo({'batch_input_shape': shape, 'pad_shape': shape})
        return data

    def _normalize(self, image: Tensor) -> Tensor:
        if self._channel_conversion:
            image = image[[2, 1, 0]]
        image = image.float()
        return (image - self.mean) / self.std if self._enable_normalize else image


@MODELS.register_module()
class HigherHRNetEstimator(PartialLoad, BottomupPoseEstimator):
    """MMPose's bottom-up estimator, as :class:`HigherHRNetHead` wants it.

    * The flip test is one forward pass over images and mirror images.
    * A batch may hold images of different sizes, or pyramids: those of one
      size go through the network together.
    * Official HigherHRNet and MMPose 0.x checkpoints load as they are.
    * A checkpoint whose tensors have other shapes is an error, not a warning.

    Args:
        partial_load: see :class:`PartialLoad`.
        *args, **kwargs: as for :class:`mmpose.models.BottomupPoseEstimator`.
    """

    def forward(
        self,
        inputs: Tensor | list[Pyramid],
        data_samples: OptSampleList = None,
        mode: str = 'tensor',
    ) -> ForwardResults:
        """As MMPose's; ``inputs`` may also be :class:`BottomupDataPreprocessor`'s list."""
        if not isinstance(inputs, list) or isinstance(inputs[0], Tensor) or mode != 'predict':
            return super().forward(inputs, data_samples, mode)
        if self.metainfo is not None:
            for sample in data_samples:
                sample.set_metainfo(self.metainfo)
        groups: dict[tuple, list[int]] = {}
        for i, pyramid in enumerate(inputs):
            groups.setdefault(tuple(tuple(x.shape) for x in pyramid), []).append(i)
        for members in groups.values():
            scales = [
                torch.stack(level) for level in zip(*(inputs[i] for i in members), strict=True)
            ]
            # writes its predictions into the samples
            self.predict(scales, [data_samples[i] for i in members])
        return data_samples

    def predict(self, inputs: Tensor | Pyramid, data_samples: SampleList) -> SampleList:
        """Predict people in images of one size.

        Args:
            inputs: (B, C, H, W), or one such tensor for every test scale.
            data_samples: the B samples.

        Returns:
            The samples with ``pred_instances`` in image pixels.

        Raises:
            ValueError: if ``test_cfg.multiscale_test`` and the input pyramid
                do not agree.
        """
        multiscale = self.test_cfg.get('multiscale_test', False)
        pyramid = [inputs] if isinstance(inputs, Tensor) else list(inputs)
        if not multiscale and len(pyramid) > 1:
            raise ValueError(
                'the pipeline gives an image pyramid; set model.test_cfg.multiscale_test=True '
                'or remove the scales from BottomupMultiScaleResize'
            )
        feats = []
        for images in pyramid:
            if self.test_cfg.get('flip_test', False):
                images = torch.cat((images, images.flip(-1)))
            feats.append(self.extract_feat(images))
        preds = self.head.predict(
            feats if multiscale else feats[0], data_samples, test_cfg=self.test_cfg
        )
        instances, fields = preds if isinstance(preds, tuple) else (preds, None)
        return self.add_pred_to_datasample(instances, fields, data_samples)

    def _load_state_dict_pre_hook(
        self, state_dict: dict, prefix: str, local_meta: ConfigType, *args, **kwargs
    ) -> None:
        """Bring a published checkpoint's keys into this model's, in place."""
        wrapped = not prefix
        while wrapped:
            wrapped = False
            for wrapper in WRAPPERS:
                if state_dict and all(key.startswith(wrapper) for key in state_dict):
                    _rename(state_dict, lambda key, w=wrapper: key[len(w) :])
                    wrapped = True
        super()._load_state_dict_pre_hook(state_dict, prefix, local_meta, *args, **kwargs)
        if prefix or any(key.startswith(('backbone.', 'head.')) for key in state_dict):
            return
        # official checkpoints have no prefixes, and ImageNet HRNets only a backbone
        backbone = tuple(f'{name}.' for name, _ in self.backbone.named_children())

        def official(key: str) -> str:
            if key.startswith(OFFICIAL_HEAD):
                return f'head.{key}'
            return f'backbone.{key}' if key.startswith(backbone) else key

        _rename(state_dict, official)


def _rename(state_dict: dict, new_name) -> None:
    for key in list(state_dict):
        value = state_dict.pop(key)
        state_dict[new_name(key)] = value
