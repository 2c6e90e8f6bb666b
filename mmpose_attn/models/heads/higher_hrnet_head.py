"""HigherHRNet's head: Cheng et al., CVPR 2020, arXiv 1908.10357."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmcv.cnn import build_norm_layer
from mmengine.structures import InstanceData, PixelData
from mmpose.models.backbones.resnet import BasicBlock
from mmpose.models.heads.base_head import BaseHead
from mmpose.models.utils.tta import flip_heatmaps
from mmpose.registry import KEYPOINT_CODECS, MODELS
from mmpose.utils.typing import ConfigType, InstanceList, OptConfigType, OptSampleList, Predictions
from torch import Tensor, nn

PER_STAGE_RESIZE = ('official', 'direct')


@MODELS.register_module()
class HigherHRNetHead(BaseHead):
    """Heatmaps and tags at 1/4, heatmaps at 1/2 (and further) resolution.

    Stage 0 reads heatmaps and tags off the backbone's highest resolution.
    Every deconvolution stage takes the features and the previous stage's
    maps, doubles the resolution, runs residual blocks and reads heatmaps
    again. Submodules are named as in the official code (``final_layers``,
    ``deconv_layers``), so published checkpoints load unrenamed.

    Args:
        in_channels: channels of the backbone's highest resolution.
        num_keypoints: K.
        tag_dim: tags a keypoint, L; 1 in the paper.
        deconv_out_channels: channels of each deconvolution stage.
        deconv_kernel_sizes: 4, 3 or 2 for each deconvolution stage.
        num_basic_blocks: residual blocks in each deconvolution stage.
        cat_output: whether each deconvolution stage also takes the previous
            stage's maps.
        with_tags: for every stage, whether it predicts tags. Stage 0 must;
            others only for inference, as targets are for stage 0.
        heatmap_loss: built for every stage; sums over the stages with
            ``heatmap_weights``.
        heatmap_weights: factor of every stage's heatmap loss.
        tag_loss: grouping loss, on stage 0.
        norm_cfg: norm layer of the deconvolution stages.
        decoder: codec that turns maps into people; needed by :meth:`predict`.
        init_cfg: default: convolutions N(0, 0.001), norms 1, as officially.

    Raises:
        ValueError: if the per-stage arguments differ in length, or name an
            impossible kernel.
    """

    def __init__(
        self,
        in_channels: int,
        num_keypoints: int,
        tag_dim: int = 1,
        deconv_out_channels: Sequence[int] = (32,),
        deconv_kernel_sizes: Sequence[int] = (4,),
        num_basic_blocks: int = 4,
        cat_output: Sequence[bool] = (True,),
        with_tags: Sequence[bool] = (True, False),
        heatmap_loss: ConfigType | None = None,
        heatmap_weights: Sequence[float] = (1.0, 1.0),
        tag_loss: ConfigType | None = None,
        norm_cfg: ConfigType | None = None,
        decoder: OptConfigType = None,
        init_cfg: OptConfigType = None,
    ) -> None:
        if init_cfg is None:
            init_cfg = [
                dict(type='Normal', layer=['Conv2d', 'ConvTranspose2d'], std=0.001),
                dict(type='Constant', layer=['_BatchNorm', 'GroupNorm'], val=1),
            ]
        super().__init__(init_cfg=init_cfg)
        stages = len(deconv_out_channels) + 1
        for name, value, length in (
            ('deconv_kernel_sizes', deconv_kernel_sizes, stages - 1),
            ('cat_output', cat_output, stages - 1),
            ('with_tags', with_tags, stages),
            ('heatmap_weights', heatmap_weights, stages),
        ):
            if len(value) != length:
                raise ValueError(
                    f'HigherHRNetHead: {name} needs {length} entries for '
                    f'{stages - 1} deconvolution stage(s), got {len(value)}'
                )
        if not with_tags[0]:
            raise ValueError('HigherHRNetHead: with_tags[0] must be True, the tags are there')
        self.in_channels = in_channels
        self.num_keypoints = num_keypoints
        self.tag_dim = tag_dim
        self.cat_output = tuple(cat_output)
        self.with_tags = tuple(with_tags)
        self.heatmap_weights = tuple(heatmap_weights)

        outs = [num_keypoints * (1 + tag_dim * tags) for tags in with_tags]
        norm_cfg = norm_cfg or dict(type='BN')
        self.final_layers = nn.ModuleList()
        self.deconv_layers = nn.ModuleList()
        channels = in_channels
        for stage, out in enumerate(outs):
            if stage:
                into = channels + outs[stage - 1] * self.cat_output[stage - 1]
                channels = deconv_out_channels[stage - 1]
                self.deconv_layers.append(
                    _deconv_stage(
                        into,
                        channels,
                        deconv_kernel_sizes[stage - 1],
                        num_basic_blocks,
                        norm_cfg,
                    )
                )
            self.final_layers.append(nn.Conv2d(channels, out, kernel_size=1))

        self.heatmap_loss = MODELS.build(heatmap_loss or dict(type='KeypointMSELoss'))
        self.tag_loss = MODELS.build(tag_loss or dict(type='BatchedAssociativeEmbeddingLoss'))
        self.decoder = None if decoder is None else KEYPOINT_CODECS.build(decoder)

    def forward(self, feats: Sequence[Tensor] | Tensor) -> list[Tensor]:
        """Maps of every stage.

        Args:
            feats: backbone outputs, highest resolution first, or that alone:
                (N, C, H/4, W/4).

        Returns:
            One (N, K or K + L*K, h, w) a stage, heatmaps before tags, at 1/4,
            1/2, ... of the input.
        """
        x = feats if isinstance(feats, Tensor) else feats[0]
        outs = [self.final_layers[0](x)]
        for stage, deconv in enumerate(self.deconv_layers):
            if self.cat_output[stage]:
                x = torch.cat((x, outs[-1]), dim=1)
            x = deconv(x)
            outs.append(self.final_layers[stage + 1](x))
        return outs

    # ------------------------------------------------------------------ loss
    def loss(
        self,
        feats: Sequence[Tensor],
        batch_data_samples: OptSampleList,
        train_cfg: ConfigType | None = None,
    ) -> dict[str, Tensor]:
        """Official losses: masked heatmap MSE at every scale, grouping at 1/4.

        Every sample needs ``gt_fields`` with one level of ``heatmaps``
        (K, h, w) and ``heatmap_mask`` (1, h, w) a stage, and
        ``gt_instance_labels.keypoint_indices`` (N, K, 2) at stage 0: what
        :class:`HigherHRNetCodec` with several sizes and
        :class:`BottomupCrowdMask` produce.

        Raises:
            ValueError: if the number of target resolutions differs from the
                number of stages, or a stage above 0 has tags.
        """
        if any(self.with_tags[1:]):
            raise ValueError(
                f'HigherHRNetHead: with_tags={self.with_tags} cannot be trained, '
                'keypoint_indices are cells of stage 0 only'
            )
        outs = self(feats)
        fields = [sample.gt_fields for sample in batch_data_samples]
        resolutions = getattr(fields[0], 'nlevel', 1)
        if resolutions != len(outs):
            raise ValueError(
                f'HigherHRNetHead has {len(outs)} stages but the targets have '
                f'{resolutions} resolution(s); give the codec one heatmap_size a stage'
            )
        levels = [list(f.levels()) if resolutions > 1 else [f] for f in fields]
        indices = [sample.gt_instance_labels.keypoint_indices for sample in batch_data_samples]

        losses = {}
        for stage, (out, weight) in enumerate(zip(outs, self.heatmap_weights, strict=True)):
            target = torch.stack([level[stage].heatmaps for level in levels])
            mask = torch.stack([level[stage].heatmap_mask for level in levels])
            losses[f'loss_heatmap_{stage}'] = weight * self.heatmap_loss(
                out[:, : self.num_keypoints].float(), target, None, mask
            )
        pull, push = self.tag_loss(outs[0][:, self.num_keypoints :], indices)
        losses.update(loss_pull=pull, loss_push=push)
        return losses

    # --------------------------------------------------------------- predict
    def predict(
        self,
        feats: Sequence,
        batch_data_samples: OptSampleList,
        test_cfg: ConfigType | None = None,
    ) -> Predictions:
        """People in every image of a batch of one image size.

        Args:
            feats: backbone outputs of the batch. With ``flip_test``, of the
                batch and then its mirror images along the batch dimension, or
                a pair of backbone outputs; with ``multiscale_test``, a list of
                such, one for every scale in the samples' ``aug_scales``.
            batch_data_samples: B samples with ``img_shape`` (h, w) and, for
                the flip test, ``flip_indices``.
            test_cfg: ``flip_test``, ``multiscale_test``, ``shift_heatmap``,
                ``align_corners`` (all False), ``restore_heatmap_size``
                (False): decode at input size rather than at the last stage's;
                ``stage_resize``: ``'official'`` takes every stage to the last
                one's size, averages, and takes that to input size,
                ``'direct'`` (MMPose 0.x) takes each stage to input size;
                ``output_heatmaps`` (False).

        Returns:
            A list of ``InstanceData`` with ``keypoints`` (N, K, 2) in input
            pixels, ``keypoint_scores`` (N, K) and ``bbox_scores`` (N,);
            with ``output_heatmaps`` also a list of ``PixelData``.
        """
        test_cfg = test_cfg or {}
        heatmaps, tags = self.aggregate(feats, batch_data_samples, test_cfg)
        preds = self.decode((heatmaps, tags))
        if test_cfg.get('output_heatmaps', False):
            fields = [
                PixelData(heatmaps=heat, tags=tag)
                for heat, tag in zip(heatmaps.detach(), tags.detach(), strict=True)
            ]
            return preds, fields
        return preds

    def aggregate(
        self, feats: Sequence, batch_data_samples: OptSampleList, test_cfg: ConfigType
    ) -> tuple[Tensor, Tensor]:
        """Heatmaps (B, K, H, W) and tags (B, L*K or 2*L*K, H, W) of all stages,
        mirror images and scales; arguments as in :meth:`predict`."""
        metainfo = batch_data_samples[0].metainfo
        multiscale = test_cfg.get('multiscale_test', False)
        flip = test_cfg.get('flip_test', False)
        stage_resize = test_cfg.get('stage_resize', 'official')
        align = test_cfg.get('align_corners', False)
        if stage_resize not in PER_STAGE_RESIZE:
            raise ValueError(
                f'stage_resize must be one of {PER_STAGE_RESIZE}, got {stage_resize!r}'
            )

        scales = list(metainfo['aug_scales']) if multiscale else [1.0]
        pyramid = list(feats) if multiscale else [feats]
        if len(scales) != len(pyramid):
            raise ValueError(f'{len(pyramid)} inputs for the scales {scales}')
        if 1 not in scales:
            raise ValueError(f'the scales {scales} must hold 1, where the tags are read')

        outs = [self._stages(level, flip) for level in pyramid]
        last = outs[scales.index(1)][-1]
        restored = tuple(metainfo['img_shape']) if test_cfg.get('restore_heatmap_size') else None
        size = restored or tuple(last.shape[-2:])

        total, tags = 0, None
        for scale, stages in zip(scales, outs, strict=True):
            # the official path averages the stages at the last one's size
            meeting = tuple(stages[-1].shape[-2:]) if stage_resize == 'official' else size
            maps = [_resize(stage, meeting, align) for stage in stages]
            heat = sum(m[:, : self.num_keypoints] for m in maps) / len(maps)
            tag = [
                m[:, self.num_keypoints :]
                for m, has_tags in zip(maps, self.with_tags, strict=True)
                if has_tags
            ]
            if flip:
                heat, tag = self._unflip(heat, tag, metainfo, test_cfg)
            total = total + _resize(heat, size, align)
            if scale == 1:
                tags = torch.cat([_resize(t, size, align) for t in tag], dim=1)
        return total / len(scales), tags

    def _stages(self, feats: Sequence, flip: bool) -> list[Tensor]:
        """Stage outputs in float32, mirror images behind the images."""
        if flip and isinstance(feats, (list, tuple)) and isinstance(feats[0], (list, tuple)):
            image, mirror = (self(f) for f in feats)
            outs = [torch.cat(pair) for pair in zip(image, mirror, strict=True)]
        else:
            outs = self(feats)
        return [out.float() for out in outs]

    def _unflip(
        self, heat: Tensor, tag: list[Tensor], metainfo: dict, test_cfg: ConfigType
    ) -> tuple[Tensor, list[Tensor]]:
        indices = list(metainfo['flip_indices'])
        shift = test_cfg.get('shift_heatmap', False)
        image, mirror = heat.chunk(2)
        heat = (image + flip_heatmaps(mirror, indices, shift_heatmap=shift)) / 2
        straight, mirrored = [], []
        joints = self.num_keypoints
        # tags are (L, K): every one of the L maps of a joint swaps sides
        swap = [dim * joints + i for dim in range(self.tag_dim) for i in indices]
        for maps in tag:
            image, mirror = maps.chunk(2)
            straight.append(image)
            mirrored.append(flip_heatmaps(mirror, swap, shift_heatmap=shift))
        return heat, straight + mirrored

    def decode(self, batch_outputs: tuple[Tensor, Tensor]) -> InstanceList:
        """Heatmaps and tags -> one ``InstanceData`` an image."""
        if self.decoder is None:
            raise RuntimeError('HigherHRNetHead: predict needs a decoder, set decoder=dict(...)')
        return [
            InstanceData(bbox_scores=score, keypoints=keypoints, keypoint_scores=scores)
            for keypoints, scores, score in zip(
                *self.decoder.batch_decode(*batch_outputs), strict=True
            )
        ]


def _resize(maps: Tensor, size: tuple[int, int], align_corners: bool) -> Tensor:
    if tuple(maps.shape[-2:]) == size:
        return maps
    return F.interpolate(maps, size=size, mode='bilinear', align_corners=align_corners)


def _deconv_stage(
    into: int, channels: int, kernel: int, num_blocks: int, norm_cfg: ConfigType
) -> nn.Sequential:
    """Deconvolution of stride 2 and residual blocks, nested as in the official code."""
    paddings = {4: (1, 0), 3: (1, 1), 2: (0, 0)}
    if kernel not in paddings:
        raise ValueError(f'HigherHRNetHead: deconv_kernel_sizes may be 4, 3 or 2, got {kernel}')
    padding, output_padding = paddings[kernel]
    deconv = nn.Sequential(
        nn.ConvTranspose2d(
            into,
            channels,
            kernel,
            stride=2,
            padding=padding,
            output_padding=output_padding,
            bias=False,
        ),
        build_norm_layer(norm_cfg, channels)[1],
        nn.ReLU(inplace=True),
    )
    blocks = (
        nn.Sequential(BasicBlock(channels, channels, norm_cfg=norm_cfg)) for _ in range(num_blocks)
    )
    return nn.Sequential(deconv, *blocks)
