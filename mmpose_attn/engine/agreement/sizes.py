"""Sizes and ways of images, maps and codecs, from the pipeline to the decoder."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from mmpose.codecs import AssociativeEmbedding, MegviiHeatmap, MSRAHeatmap, UDPHeatmap
from mmpose.datasets.transforms import BottomupRandomAffine, GenerateTarget, TopdownAffine
from mmpose.models.pose_estimators import TopdownPoseEstimator
from mmpose.registry import MODELS, TRANSFORMS
from torch import Tensor, nn

from .disagreement import Disagreement
from .joints import maps_each
from .parts import Data, Parts

_CODECS = (MSRAHeatmap, UDPHeatmap, MegviiHeatmap, AssociativeEmbedding)
_FLIP_MODES = ('heatmap', 'udp_combined', 'offset')
# every network that is known here takes this size
_PROBE = 64
_STRIDE = 32

Size = tuple[int, int]


def check_codecs(parts: Parts) -> Iterator[Disagreement]:
    """Codecs of the pipelines against the sizes of their images and the decoder of the head."""
    topdown = isinstance(parts.model, TopdownPoseEstimator)
    decoder = _decoder(parts)
    yield from _udp(parts, decoder)
    for data in parts.data:
        resize = _resize(data)
        encoders = _encoders(data)
        for encoder in encoders:
            size = _size(encoder.input_size) if hasattr(encoder, 'input_size') else None
            if resize and size and size != _size(resize.input_size):
                yield Disagreement(
                    f'{data.key}.pipeline, GenerateTarget.encoder.input_size',
                    f'it is {size}, but {type(resize).__name__} makes images of '
                    f'{_size(resize.input_size)}',
                    f'Write input_size={_size(resize.input_size)}, and a heatmap_size for it',
                )
        decodes = topdown and data.phase != 'train' and hasattr(decoder, 'input_size')
        if resize and decodes and _size(decoder.input_size) != _size(resize.input_size):
            yield Disagreement(
                'model.head.decoder.input_size',
                f'it is {_size(decoder.input_size)}, but {type(resize).__name__} of {data.key} '
                f'makes images of {_size(resize.input_size)}',
                'Write one and the same codec in both places',
            )
        if len(encoders) == 1:
            yield from _same_codec(data, encoders[0], decoder, topdown)


def _same_codec(data: Data, encoder: Any, decoder: Any, topdown: bool) -> Iterator[Disagreement]:
    """What an encoder and a decoder must have in common."""
    if not isinstance(decoder, _CODECS) or not isinstance(encoder, _CODECS):
        return
    where = f'{data.key}.pipeline has'
    if not isinstance(encoder, type(decoder)) and not isinstance(decoder, type(encoder)):
        yield Disagreement(
            'model.head.decoder.type',
            f'it is {type(decoder).__name__}, but the encoder of {where} {type(encoder).__name__}',
            'Write one and the same codec in both places',
        )
        return
    names = ['heatmap_size', 'heatmap_type'] if topdown else ['use_udp']
    for name in names:
        one, other = (_plain(getattr(codec, name, None)) for codec in (encoder, decoder))
        if one != other:
            yield Disagreement(
                f'model.head.decoder.{name}',
                f'it is {other!r}, but the encoder of {where} {one!r}',
                'Write one and the same codec in both places',
            )


def _udp(parts: Parts, decoder: Any) -> Iterator[Disagreement]:
    """UDP counts from the centres of cells, images as well as keypoints.

    Networks are published that were trained and are tested with one of the two alone, so that this
    is left alone; what must not change is the way between the two.
    """
    found = {
        f'{data.key}.pipeline, TopdownAffine.use_udp': bool(step.use_udp)
        for data in parts.data
        for step in data.transforms
        if isinstance(step, TopdownAffine)
    }
    if len(set(found.values())) > 1 and isinstance(decoder, MSRAHeatmap | UDPHeatmap):
        right = isinstance(decoder, UDPHeatmap)
        for key, udp in found.items():
            if udp != right:
                yield Disagreement(
                    key,
                    f'it is {udp}, and otherwise elsewhere: keypoints would be off by a part of a '
                    'cell',
                    f'Write use_udp={right}, as {type(decoder).__name__} has it',
                )


def check_sizes(parts: Parts) -> Iterator[Disagreement]:
    """Sizes of the codecs' maps against those that the network makes."""
    head = getattr(parts.model, 'head', None)
    if head is None:
        return
    yield from _impossible(parts)
    maps = _maps(parts.model, (_PROBE, _PROBE))
    if not maps or any(_PROBE % side for sizes in maps for side in sizes):
        return
    strides = [(_PROBE // w, _PROBE // h) for w, h in maps]
    for data in parts.data:
        for encoder in _encoders(data):
            if isinstance(encoder, _CODECS) and len(_encoders(data)) == 1:
                key = f'{data.key}.pipeline, GenerateTarget.encoder.heatmap_size'
                given = getattr(encoder, 'heatmap_sizes', [encoder.heatmap_size])
                levels = None if getattr(encoder, 'multi_resolution', False) else 1
                yield from _fit(key, parts.model, encoder.input_size, given, strides[:levels])
    decoder = _decoder(parts)
    if not isinstance(decoder, _CODECS):
        return
    if (parts.model.test_cfg or {}).get('restore_heatmap_size'):
        strides = [(1, 1)]  # maps are brought to input size before they are decoded
    key = 'model.head.decoder.heatmap_size'
    yield from _fit(key, parts.model, decoder.input_size, [decoder.heatmap_size], strides[-1:])


def _fit(
    key: str, model: nn.Module, input_size: Any, given: Sequence, strides: Sequence[Size]
) -> Iterator[Disagreement]:
    """Compares the sizes of a codec's maps with what an image gives."""
    width, height = _size(input_size)
    if any(width % x or height % y for x, y in strides):
        return
    made = [(width // x, height // y) for x, y in strides]
    given = [_size(size) for size in given]
    if given != made:
        # convolutions without padding have no stride that holds at every size
        real = _maps(model, (width, height)) or []
        if (1, 1) not in strides and not set(made) <= set(real):
            return
        one = len(made) == 1
        wanted = made[0] if one else made
        yield Disagreement(
            key,
            f'it is {given[0] if len(given) == 1 else given}, but of images of '
            f'{(width, height)} the head makes maps of {wanted}',
            f'Write heatmap_size={wanted}',
        )


def _impossible(parts: Parts) -> Iterator[Disagreement]:
    """Sizes of images that end in an error inside of the network."""
    sizes = {}
    for data in parts.data:
        resize = _resize(data)
        if resize and any(side % _STRIDE for side in _size(resize.input_size)):
            where = f'{data.key}.pipeline, {type(resize).__name__}.input_size'
            sizes.setdefault(_size(resize.input_size), where)
    for size, key in sizes.items():
        if _maps(parts.model, (_PROBE, _PROBE)) and not _maps(parts.model, size):
            yield Disagreement(
                key,
                f'the network cannot take images of {size}',
                f'Write multiples of {_STRIDE}',
            )


@torch.no_grad()
def _maps(model: nn.Module, size: Size) -> list[Size] | None:
    """Sizes of the maps that a head makes of an image of this size; None if it does not."""
    flags = [(module, module.training) for module in model.modules()]
    parameter = next(model.parameters())
    width, height = size
    try:
        for module, _ in flags:
            module.training = False
        image = torch.zeros(1, 3, height, width, dtype=parameter.dtype, device=parameter.device)
        outs = model.head(model.extract_feat(image))
    except Exception:  # a network of one size, or one that wants other arguments
        return None
    finally:
        for module, training in flags:
            module.training = training
    outs = outs if isinstance(outs, list | tuple) else [outs]
    if not all(isinstance(out, Tensor) and out.ndim == 4 for out in outs):
        return None
    return [(out.shape[3], out.shape[2]) for out in outs]


def check_test_cfg(parts: Parts) -> Iterator[Disagreement]:
    """``test_cfg``, ``data_mode`` and what the pipelines pack against the kind of model."""
    model = parts.model
    topdown = isinstance(model, TopdownPoseEstimator)
    test_cfg = model.test_cfg or {}
    head = getattr(model, 'head', None)
    for data in parts.data:
        mode = getattr(data.dataset, 'data_mode', None)
        if mode and (mode == 'topdown') != topdown:
            right = 'topdown' if topdown else 'bottomup'
            yield Disagreement(
                f'{data.key}.data_mode',
                f'it is {mode!r}, but {type(model).__name__} is a {right} model',
                f"Write data_mode='{right}', with a pipeline for it",
            )
        elif not topdown and isinstance(head, MODELS.get('mmpose.HigherHRNetHead')):
            yield from _bottomup_pipeline(data, test_cfg)
    if head is None:
        return
    tested = any(data.phase != 'train' for data in parts.data)
    if tested and getattr(head, 'decoder', head) is None:
        yield Disagreement(
            'model.head.decoder',
            'there is none, and validation and test need it',
            'Write decoder=codec, the codec of the pipeline',
        )
    mode = test_cfg.get('flip_mode', 'heatmap')
    if topdown and test_cfg.get('flip_test') and isinstance(_decoder(parts), _CODECS):
        wanted = 'udp_combined' if maps_each(head) == 3 else 'heatmap'
        if mode not in _FLIP_MODES or (mode == 'udp_combined') != (wanted == 'udp_combined'):
            yield Disagreement(
                'model.test_cfg.flip_mode',
                f'it is {mode!r}, but the maps are those of {type(head.decoder).__name__}',
                f"Write flip_mode='{wanted}'",
            )


def _bottomup_pipeline(data: Data, test_cfg: dict) -> Iterator[Disagreement]:
    """What HigherHRNet needs of its pipelines."""
    names = [type(step).__name__ for step in data.transforms]
    if data.phase == 'train':
        masks = {'BottomupCrowdMask', 'BottomupGetHeatmapMask'}
        if 'GenerateTarget' in names and not masks & set(names):
            yield Disagreement(
                f'{data.key}.pipeline',
                'it has no BottomupCrowdMask, whose masks the loss needs',
                "Write dict(type='BottomupCrowdMask') after GenerateTarget",
            )
        return
    scales = next((step.scales for step in data.transforms if hasattr(step, 'scales')), (1,))
    if len(scales) > 1 and not test_cfg.get('multiscale_test'):
        yield Disagreement(
            'model.test_cfg.multiscale_test',
            f'it is not set, but the pipeline of {data.key} makes images of the scales {scales}',
            'Write multiscale_test=True, or leave the scales out',
        )
    pack = next(
        (step for step in data.transforms if isinstance(step, TRANSFORMS.get('PackPoseInputs'))),
        None,
    )
    if len(scales) > 1 and pack is not None and 'aug_scales' not in pack.meta_keys:
        yield Disagreement(
            f'{data.key}.pipeline, {type(pack).__name__}',
            'it does not tell the network of the scales (no meta key aug_scales)',
            "Write dict(type='PackBottomupInputs')",
        )


def _decoder(parts: Parts) -> Any:
    return getattr(getattr(parts.model, 'head', None), 'decoder', None)


def _resize(data: Data) -> Any:
    """The transform that makes images of the network's input size."""
    found = [s for s in data.transforms if isinstance(s, TopdownAffine | BottomupRandomAffine)]
    return found[-1] if found else None


def _encoders(data: Data) -> list[Any]:
    found: list[Any] = []
    for step in data.transforms:
        if isinstance(step, GenerateTarget):
            found += step.encoder if isinstance(step.encoder, list) else [step.encoder]
    return found


def _plain(value: Any) -> Any:
    return tuple(map(int, value)) if isinstance(value, list | tuple) else value


def _size(value: Any) -> Size:
    return (value, value) if isinstance(value, int) else tuple(map(int, value))
