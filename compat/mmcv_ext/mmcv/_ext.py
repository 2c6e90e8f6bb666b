"""``mmcv._ext`` without a compiler: mmcv's operators through torchvision.

``mmcv.ops`` calls a compiled extension module of this name. mmcv-lite comes
without it and there are no prebuilt wheels of the full mmcv for torch >= 2.5,
so this module answers the same calls, with mmcv 2.1's signatures and meaning:

===================================  =========================================
operator                             made of
===================================  =========================================
nms (offset 0 and 1)                 torchvision.ops.nms
softnms (naive, linear, gaussian)    torch, one vectorised step a kept box
nms_match                            torch, one vectorised step a kept box
bbox_overlaps                        torch
roi_align (average)                  torchvision.ops.roi_align
deform_conv, modulated_deform_conv   torchvision.ops.deform_conv2d
sigmoid_ and softmax_focal_loss      torch, closed-form gradients
ms_deform_attn                       mmcv's own PyTorch form of it
===================================  =========================================

Differentiability is as in mmcv: its autograd functions call the
``*_backward`` operators below, once differentiable. ``roi_align_backward``
gives the gradient of the features (none of the boxes), the (modulated)
deformable convolutions those of input, offset, mask, weight and bias, the
focal losses that of the logits, and ``ms_deform_attn_backward`` those of
values, locations and weights. Except for the focal losses, a backward
operator runs its forward again under autograd instead of repeating the
derivative by hand. The suppressions and ``bbox_overlaps`` have no gradient.

Tensors may be float64, float32, float16 or bfloat16, on the CPU or a GPU;
half precision is computed in float32 and rounded once, on writing the result.

Any other operator of mmcv is present as a callable that raises
NotImplementedError with its name, because ``mmcv.ops`` looks all of them up
on import. A compiled ``_ext`` beside this file is found first by Python's
import system (extension modules come before ``.py`` files), so a full mmcv is
never shadowed.
"""

from collections.abc import Callable, Sequence
from typing import NoReturn

import torch
import torchvision
from torch import Tensor
from torchvision.ops import deform_conv2d as _deform_conv2d
from torchvision.ops import nms as _nms
from torchvision.ops import roi_align as _roi_align

# What mmcv's kernels put under a logarithm instead of zero (C's FLT_MIN).
_FLT_MIN = torch.finfo(torch.float32).tiny


def __getattr__(name: str) -> Callable[..., NoReturn]:
    # Dunder names are Python's own questions (pickle, inspect, importlib):
    # they must get the honest answer that there is no such attribute.
    if name.startswith('__'):
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')

    def missing(*args, **kwargs) -> NoReturn:
        raise NotImplementedError(
            f'mmcv operator {name!r}: this mmcv._ext is the torchvision '
            'stand-in (mmcv-ext-torchvision), which does not have it. A '
            'compiled mmcv does: in a fresh environment, install mmcv with '
            'its extension instead of mmcv-lite.'
        )

    missing.__name__ = missing.__qualname__ = name
    return missing


def get_compiler_version() -> str:
    """Say, where mmcv reports its compiler, that nothing was compiled."""
    return f'none (operators of torchvision {torchvision.__version__})'


def get_compiling_cuda_version() -> str:
    """CUDA version of the kernels in use, which are those of torch."""
    return torch.version.cuda or 'not available'


def _compute_dtype(*tensors: Tensor) -> torch.dtype:
    """The common dtype of ``tensors``, and at least float32."""
    dtype = torch.float32
    for tensor in tensors:
        dtype = torch.promote_types(dtype, tensor.dtype)
    return dtype


def _gradients(
    function: Callable[..., Tensor], inputs: Sequence[Tensor], grad_output: Tensor
) -> tuple[Tensor, ...]:
    """Gradients of ``function(*inputs)`` for ``grad_output``, by autograd.

    Args:
        function: A differentiable function of all inputs.
        inputs: Its arguments; none of them is modified.
        grad_output: The gradient of its result, of the result's shape.
    """
    # mmcv's autograd functions call from inside backward(), without grad mode.
    with torch.enable_grad():
        leaves = [x.detach().requires_grad_() for x in inputs]
        output = function(*leaves)
        return torch.autograd.grad(output, leaves, grad_output.to(output.dtype))


# ------------------------------------------------------------ suppression


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Indices of the boxes that survive, best score first.

    Args:
        boxes: (N, 4) as x1, y1, x2, y2 in pixels.
        scores: (N,).
        iou_threshold: A box goes if its IoU with a better one is greater.
        offset: 0 or 1; widths are ``x2 - x1 + offset``.
    """
    dtype = _compute_dtype(boxes, scores)
    boxes = boxes.detach().to(dtype)
    if offset:
        boxes = boxes + boxes.new_tensor([0, 0, offset, offset])
    return _nms(boxes, scores.detach().to(dtype), iou_threshold)


def _iou(boxes1: Tensor, boxes2: Tensor, offset: int = 0, foreground: bool = False) -> Tensor:
    """IoU of two sets of boxes whose leading dimensions broadcast.

    Args:
        boxes1: (..., 4) as x1, y1, x2, y2.
        boxes2: (..., 4).
        offset: Widths are ``x2 - x1 + offset``.
        foreground: Divide by the area of ``boxes1`` instead of the union.
    """
    extent = torch.minimum(boxes1[..., 2:], boxes2[..., 2:])
    extent = extent - torch.maximum(boxes1[..., :2], boxes2[..., :2]) + offset
    overlap = extent.clamp_(min=0).prod(-1)
    total = (boxes1[..., 2:] - boxes1[..., :2] + offset).prod(-1)
    if not foreground:
        total = total + (boxes2[..., 2:] - boxes2[..., :2] + offset).prod(-1) - overlap
    return overlap / total


def softnms(
    boxes: Tensor,
    scores: Tensor,
    dets: Tensor,
    iou_threshold: float,
    sigma: float,
    min_score: float,
    method: int,
    offset: int,
) -> Tensor:
    """Soft-NMS (Bodla et al., 2017): lower the scores of overlapping boxes.

    Args:
        boxes: (N, 4) as x1, y1, x2, y2.
        scores: (N,).
        dets: (N, 5), written in place: the kept boxes with their new scores,
            in the order in which they were taken.
        iou_threshold: IoU from which ``naive`` and ``linear`` act.
        sigma: Width of ``gaussian``.
        min_score: A box whose score falls below is dropped.
        method: 0 naive, 1 linear, 2 gaussian.
        offset: 0 or 1; widths are ``x2 - x1 + offset``.

    Returns:
        (M,) indices of the kept boxes; ``dets[:M]`` holds them.
    """
    dtype = _compute_dtype(boxes, scores)
    # Box, score and index move together. Swaps and removals follow mmcv's
    # order, which decides between equal scores.
    box = boxes.detach().to(dtype, copy=True)
    score = scores.detach().to(dtype, copy=True)
    index = torch.arange(len(box), device=box.device)
    taken = 0
    while taken < len(box):
        best = taken + int(score[taken:].argmax())
        if best != taken:
            for column in (box, score, index):
                column[[taken, best]] = column[[best, taken]]
        rest = taken + 1
        # Two boxes without area have an IoU of NaN: they do not overlap.
        iou = _iou(box[taken], box[rest:], offset).nan_to_num_(nan=0)
        if method == 0:
            weight = (iou < iou_threshold).to(dtype)
        elif method == 1:
            weight = torch.where(iou < iou_threshold, 1, 1 - iou)
        else:
            weight = torch.exp(-(iou * iou) / sigma)
        score[rest:] *= weight
        drop = score[rest:] < min_score
        if drop.any():
            # A dropped box is replaced by the last one that stays.
            keep = torch.cat([~drop.new_zeros(rest), ~drop])
            count = int(keep.sum())
            holes = (~keep[:count]).nonzero().flatten()
            fill = count + keep[count:].nonzero().flatten().flip(0)
            for column in (box, score, index):
                column[holes] = column[fill]
            box, score, index = box[:count], score[:count], index[:count]
        taken = rest
    dets[: len(box), :4] = box
    dets[: len(box), 4] = score
    return index


def nms_match(dets: Tensor, iou_threshold: float) -> list[list[int]]:
    """Group boxes by the box that suppresses them.

    Args:
        dets: (N, 5) as x1, y1, x2, y2, score.
        iou_threshold: A box joins a better one's group from this IoU on.

    Returns:
        One list of indices a kept box, which comes first; best scores first.
    """
    dets = dets.detach().to(_compute_dtype(dets))
    order = dets[:, 4].sort(descending=True, stable=True).indices
    groups = []
    while len(order):
        joins = _iou(dets[order[0], :4], dets[order, :4]) >= iou_threshold
        joins[0] = True
        groups.append(order[joins].tolist())
        order = order[~joins]
    return groups


def bbox_overlaps(
    bboxes1: Tensor, bboxes2: Tensor, ious: Tensor, mode: int, aligned: bool, offset: int
) -> None:
    """Write the overlaps of boxes into ``ious``.

    Args:
        bboxes1: (M, 4) as x1, y1, x2, y2.
        bboxes2: (N, 4).
        ious: (M, N), or (M,) if aligned; written in place.
        mode: 0 intersection over union, 1 over the area of ``bboxes1``.
        aligned: Only pairs of equal index.
        offset: 0 or 1; widths are ``x2 - x1 + offset``.
    """
    dtype = _compute_dtype(bboxes1, bboxes2)
    bboxes1, bboxes2 = bboxes1.to(dtype), bboxes2.to(dtype)
    if not aligned:
        bboxes1 = bboxes1[:, None]
    ious.copy_(_iou(bboxes1, bboxes2, offset, foreground=mode == 1))


# -------------------------------------------------------------- RoI align


def _check_pool_mode(pool_mode: int) -> None:
    if pool_mode == 0:
        raise NotImplementedError(
            "roi_align with pool_mode='max': torchvision, which stands in for "
            "mmcv's compiled operators here, has pool_mode='avg' alone."
        )


def roi_align_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Average RoI align (He et al., 2017) into ``output``.

    Args:
        input: Features (N, C, H, W).
        rois: (K, 5) as batch index, x1, y1, x2, y2 in image pixels.
        output: (K, C, aligned_height, aligned_width), written in place.
        argmax_y: Unused, of mmcv's max pooling.
        argmax_x: Unused.
        aligned_height: Height of the output.
        aligned_width: Width of the output.
        spatial_scale: Feature pixels per image pixel.
        sampling_ratio: Samples per bin and axis; 0: as many as pixels.
        pool_mode: 1, average.
        aligned: Shift the boxes by half a pixel.

    Raises:
        NotImplementedError: For max pooling (``pool_mode`` 0).
    """
    _check_pool_mode(pool_mode)
    dtype = _compute_dtype(input, rois)
    output.copy_(
        _roi_align(
            input.to(dtype),
            rois.to(dtype),
            (aligned_height, aligned_width),
            spatial_scale,
            sampling_ratio,
            aligned,
        )
    )


def roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Add the gradient of :func:`roi_align_forward` to ``grad_input``."""
    _check_pool_mode(pool_mode)
    dtype = _compute_dtype(grad_output, rois)
    boxes = rois.to(dtype)

    def forward(x: Tensor) -> Tensor:
        return _roi_align(
            x, boxes, (aligned_height, aligned_width), spatial_scale, sampling_ratio, aligned
        )

    # Linear in the features, so their values do not matter: zeros will do.
    zeros = torch.zeros_like(grad_input, dtype=dtype)
    grad_input.add_(_gradients(forward, [zeros], grad_output)[0])


# ------------------------------------------------- deformable convolutions


def _deform_conv(
    tensors: Sequence[Tensor],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    groups: int,
    deform_groups: int,
) -> Tensor:
    """Deformable convolution, modulated if there is a mask.

    Args:
        tensors: Input (N, C, H, W), offset (N, 2 * G * kh * kw, H', W') as
            y, x pairs, weight (O, C / groups, kh, kw) and, if modulated, the
            mask (N, G * kh * kw, H', W') and perhaps the bias (O,).
        stride: Of y and x, and so below.
        padding: Zeros around the input.
        dilation: Spacing of the kernel.
        groups: Groups of the convolution.
        deform_groups: G, groups of channels with offsets of their own.

    Raises:
        ValueError: If the groups do not fit the shapes. torchvision derives
            them from there, so that a mistake would go unseen.
    """
    x, offset, weight, *mask_bias = tensors
    kernel = weight.shape[2] * weight.shape[3]
    if weight.shape[1] * groups != x.shape[1]:
        raise ValueError(
            f'weight {tuple(weight.shape)} in {groups} groups does not fit '
            f'the {x.shape[1]} channels of the input'
        )
    if offset.shape[1] != 2 * deform_groups * kernel:
        raise ValueError(
            f'offset has {offset.shape[1]} channels, but a kernel of {kernel} '
            f'points in {deform_groups} deform_groups needs '
            f'{2 * deform_groups * kernel}'
        )
    mask = mask_bias[0] if mask_bias else None
    bias = mask_bias[1] if len(mask_bias) > 1 else None
    return _deform_conv2d(x, offset, weight, bias, stride, padding, dilation, mask)


def deform_conv_forward(
    input: Tensor,
    weight: Tensor,
    offset: Tensor,
    output: Tensor,
    columns: Tensor,
    ones: Tensor,
    kW: int,
    kH: int,
    dW: int,
    dH: int,
    padW: int,
    padH: int,
    dilationW: int,
    dilationH: int,
    group: int,
    deformable_group: int,
    im2col_step: int,
) -> None:
    """Deformable convolution (Dai et al., 2017) into ``output``.

    ``columns``, ``ones`` and ``im2col_step`` are work space of mmcv's kernels
    and unused. For the tensors see :func:`_deform_conv`.
    """
    dtype = _compute_dtype(input, weight, offset)
    tensors = [x.to(dtype) for x in (input, offset, weight)]
    output.copy_(
        _deform_conv(
            tensors, (dH, dW), (padH, padW), (dilationH, dilationW), group, deformable_group
        )
    )


def _deform_conv_gradients(
    tensors: Sequence[Tensor],
    grad_output: Tensor,
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    groups: int,
    deform_groups: int,
) -> tuple[Tensor, ...]:
    """Gradients of :func:`_deform_conv` for each of ``tensors``."""
    dtype = _compute_dtype(grad_output, *tensors)

    def forward(*leaves: Tensor) -> Tensor:
        return _deform_conv(leaves, stride, padding, dilation, groups, deform_groups)

    return _gradients(forward, [x.to(dtype) for x in tensors], grad_output)


def deform_conv_backward_input(
    input: Tensor,
    offset: Tensor,
    grad_output: Tensor,
    grad_input: Tensor,
    grad_offset: Tensor,
    weight: Tensor,
    columns: Tensor,
    kW: int,
    kH: int,
    dW: int,
    dH: int,
    padW: int,
    padH: int,
    dilationW: int,
    dilationH: int,
    group: int,
    deformable_group: int,
    im2col_step: int,
) -> None:
    """Write the gradients of input and offset in place."""
    grads = _deform_conv_gradients(
        (input, offset, weight),
        grad_output,
        (dH, dW),
        (padH, padW),
        (dilationH, dilationW),
        group,
        deformable_group,
    )
    grad_input.copy_(grads[0])
    grad_offset.copy_(grads[1])


def deform_conv_backward_parameters(
    input: Tensor,
    offset: Tensor,
    grad_output: Tensor,
    grad_weight: Tensor,
    columns: Tensor,
    ones: Tensor,
    kW: int,
    kH: int,
    dW: int,
    dH: int,
    padW: int,
    padH: int,
    dilationW: int,
    dilationH: int,
    group: int,
    deformable_group: int,
    scale: float,
    im2col_step: int,
) -> None:
    """Add ``scale`` times the gradient of the weight to ``grad_weight``."""
    # The result does not depend on the weight's values, only its shape.
    weight = torch.zeros_like(grad_weight)
    grads = _deform_conv_gradients(
        (input, offset, weight),
        grad_output,
        (dH, dW),
        (padH, padW),
        (dilationH, dilationW),
        group,
        deformable_group,
    )
    grad_weight.add_(grads[2], alpha=scale)


def modulated_deform_conv_forward(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    output: Tensor,
    columns: Tensor,
    kernel_h: int,
    kernel_w: int,
    stride_h: int,
    stride_w: int,
    pad_h: int,
    pad_w: int,
    dilation_h: int,
    dilation_w: int,
    group: int,
    deformable_group: int,
    with_bias: bool,
) -> None:
    """Modulated deformable convolution (Zhu et al., 2019) into ``output``.

    ``ones`` and ``columns`` are work space of mmcv's kernels and unused. For
    the tensors see :func:`_deform_conv`.
    """
    tensors = [input, offset, weight, mask] + ([bias] if with_bias else [])
    dtype = _compute_dtype(*tensors)
    output.copy_(
        _deform_conv(
            [x.to(dtype) for x in tensors],
            (stride_h, stride_w),
            (pad_h, pad_w),
            (dilation_h, dilation_w),
            group,
            deformable_group,
        )
    )


def modulated_deform_conv_backward(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    columns: Tensor,
    grad_input: Tensor,
    grad_weight: Tensor,
    grad_bias: Tensor,
    grad_offset: Tensor,
    grad_mask: Tensor,
    grad_output: Tensor,
    kernel_h: int,
    kernel_w: int,
    stride_h: int,
    stride_w: int,
    pad_h: int,
    pad_w: int,
    dilation_h: int,
    dilation_w: int,
    group: int,
    deformable_group: int,
    with_bias: bool,
) -> None:
    """Write the gradients of all tensors in place."""
    tensors = [input, offset, weight, mask] + ([bias] if with_bias else [])
    grads = _deform_conv_gradients(
        tensors,
        grad_output,
        (stride_h, stride_w),
        (pad_h, pad_w),
        (dilation_h, dilation_w),
        group,
        deformable_group,
    )
    targets = [grad_input, grad_offset, grad_weight, grad_mask, grad_bias]
    for target, grad in zip(targets, grads, strict=False):
        target.copy_(grad)


# ------------------------------------------------------------ focal losses


def _class_weight(weight: Tensor, target: Tensor, dtype: torch.dtype) -> Tensor | float:
    """The weight of each target's class, as (N, 1); 1 without weights."""
    if weight.numel() == 0:
        return 1.0
    # A target outside the classes is background, which has no weight.
    return weight.to(dtype)[target.clamp(0, len(weight) - 1)][:, None]


def sigmoid_focal_loss_forward(
    input: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    """Sigmoid focal loss (Lin et al., 2017) into ``output``.

    Args:
        input: Logits (N, C).
        target: (N,) class indices; C is background.
        weight: (C,) weights of the classes, or empty.
        output: (N, C), written in place.
        gamma: Focusing power.
        alpha: Weight of the positives, 1 - alpha of the negatives.
    """
    p = input.to(_compute_dtype(input)).sigmoid()
    positive = target[:, None] == torch.arange(input.shape[1], device=input.device)
    on = alpha * (1 - p) ** gamma * p.clamp(min=_FLT_MIN).log()
    off = (1 - alpha) * p**gamma * (1 - p).clamp(min=_FLT_MIN).log()
    output.copy_(-torch.where(positive, on, off) * _class_weight(weight, target, p.dtype))


def sigmoid_focal_loss_backward(
    input: Tensor, target: Tensor, weight: Tensor, grad_input: Tensor, gamma: float, alpha: float
) -> None:
    """Write d loss / d logits of :func:`sigmoid_focal_loss_forward`."""
    p = input.to(_compute_dtype(input)).sigmoid()
    positive = target[:, None] == torch.arange(input.shape[1], device=input.device)
    log_p, log_q = p.clamp(min=_FLT_MIN).log(), (1 - p).clamp(min=_FLT_MIN).log()
    on = alpha * (1 - p) ** gamma * (1 - p - gamma * p * log_p)
    off = (1 - alpha) * p**gamma * (gamma * (1 - p) * log_q - p)
    grad_input.copy_(-torch.where(positive, on, off) * _class_weight(weight, target, p.dtype))


def _target_probability(softmax: Tensor, target: Tensor) -> Tensor:
    """(N, 1) probability of each target; 1, without loss, where it is < 0."""
    p = softmax.to(_compute_dtype(softmax)).gather(1, target.clamp(min=0)[:, None])
    return torch.where(target[:, None] >= 0, p, 1)


def softmax_focal_loss_forward(
    input: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    """Softmax focal loss into ``output``.

    Args:
        input: Probabilities (N, C), after the softmax.
        target: (N,) class indices; those below 0 have no loss.
        weight: (C,) weights of the classes, or empty.
        output: (N,), written in place.
        gamma: Focusing power.
        alpha: Factor of the loss.
    """
    p = _target_probability(input, target)
    loss = -alpha * (1 - p) ** gamma * p.clamp(min=_FLT_MIN).log()
    output.copy_((loss * _class_weight(weight, target, p.dtype))[:, 0])


def softmax_focal_loss_backward(
    input: Tensor,
    target: Tensor,
    weight: Tensor,
    buff: Tensor,
    grad_input: Tensor,
    gamma: float,
    alpha: float,
) -> None:
    """Write d loss / d logits of :func:`softmax_focal_loss_forward`.

    ``buff`` is work space of mmcv's kernels and unused.
    """
    p = _target_probability(input, target)
    log_p = p.clamp(min=_FLT_MIN).log()
    q = 1 - p
    # gamma * q ** (gamma - 1) is infinite at q = 0 for gamma < 1; there the
    # loss is flat, as it also is without a target.
    slope = torch.where(q > 0, gamma * q ** (gamma - 1) * p * log_p, 0) - q**gamma
    slope = alpha * slope * _class_weight(weight, target, p.dtype)
    slope = torch.where(target[:, None] >= 0, slope, 0)
    hot = target[:, None] == torch.arange(input.shape[1], device=input.device)
    grad_input.copy_(slope * (hot.to(p.dtype) - input))


# ------------------------------------------------ multi-scale attention


def ms_deform_attn_forward(
    value: Tensor,
    value_spatial_shapes: Tensor,
    value_level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    im2col_step: int,
) -> Tensor:
    """Multi-scale deformable attention (Zhu et al., 2021).

    Args:
        value: (N, keys, heads, C / heads).
        value_spatial_shapes: (levels, 2) as height, width.
        value_level_start_index: Unused, follows from the shapes.
        sampling_locations: (N, queries, heads, levels, points, 2) as x, y in
            [0, 1].
        attention_weights: (N, queries, heads, levels, points).
        im2col_step: Unused.

    Returns:
        (N, queries, C).
    """
    # On use, because that module imports this one.
    from mmcv.ops.multi_scale_deform_attn import multi_scale_deformable_attn_pytorch

    dtype = _compute_dtype(value)
    output = multi_scale_deformable_attn_pytorch(
        value.to(dtype),
        value_spatial_shapes,
        sampling_locations.to(dtype),
        attention_weights.to(dtype),
    )
    return output.to(value.dtype)


def ms_deform_attn_backward(
    value: Tensor,
    value_spatial_shapes: Tensor,
    value_level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    grad_output: Tensor,
    grad_value: Tensor,
    grad_sampling_loc: Tensor,
    grad_attn_weight: Tensor,
    im2col_step: int,
) -> None:
    """Write the gradients of values, locations and weights in place."""

    def forward(values: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
        return ms_deform_attn_forward(
            values, value_spatial_shapes, value_level_start_index, locations, weights, im2col_step
        )

    grads = _gradients(forward, [value, sampling_locations, attention_weights], grad_output)
    targets = (grad_value, grad_sampling_loc, grad_attn_weight)
    for target, grad in zip(targets, grads, strict=True):
        target.copy_(grad)
