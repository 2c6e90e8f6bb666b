"""Drawing people on images."""

from collections.abc import Sequence

import cv2
import numpy as np

# well apart for neighbours in the list, on light and on dark ground (BGR)
PALETTE = (
    (66, 135, 245),
    (80, 200, 80),
    (235, 110, 60),
    (200, 80, 220),
    (60, 220, 230),
    (220, 200, 60),
)
_SHIFT = 4  # fractional bits of OpenCV's coordinates


_DARK, _LIGHT = (20, 20, 20), (250, 250, 250)
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_FONT_HEIGHT = 22  # pixels of its capitals at scale 1
_LEAST_TEXT = 9  # pixels of the smallest capitals that are legible


def draw_people(
    image: np.ndarray,
    keypoints: np.ndarray,
    scores: np.ndarray,
    skeleton: Sequence[tuple[int, int]],
    threshold: float = 0.1,
    *,
    boxes: np.ndarray | None = None,
    labels: Sequence[str] | None = None,
    colors: Sequence[int] | None = None,
) -> np.ndarray:
    """Draw people's skeletons, one colour a person.

    Args:
        image: (H, W, 3) uint8.
        keypoints: (N, K, 2) in pixels.
        scores: (N, K); keypoints at or below ``threshold`` are left out.
        skeleton: pairs of keypoint indices.
        threshold: least score that is drawn.
        boxes: (N, 4) x1, y1, x2, y2 to draw as thin frames.
        labels: a few characters beside every person, of a size that suits the
            person and can be read.
        colors: place of every person's colour in the palette; that of the
            person by default.

    Returns:
        A drawn copy of the image.
    """
    out = image.copy()
    side = min(image.shape[:2])
    texts = []
    for person, (points, score) in enumerate(zip(keypoints, scores, strict=True)):
        color = PALETTE[(person if colors is None else int(colors[person])) % len(PALETTE)]
        shown = (score > threshold) & np.isfinite(points).all(-1)
        extent = np.ptp(points[shown], axis=0).max() if shown.any() else 0
        # legible on a thumbnail and on a large image, thinner on small people
        width = max(1, round(min(side / 150, extent / 40)))
        if boxes is not None:
            corners = np.round(boxes[person].reshape(2, 2) * 2**_SHIFT).astype(int)
            thin = max(1, round(side / 500))
            cv2.rectangle(out, *map(tuple, corners), color, thin, cv2.LINE_AA, _SHIFT)
        fixed = np.round(np.where(shown[:, None], points, 0) * 2**_SHIFT).astype(int)
        limbs = [(a, b) for a, b in skeleton if shown[a] and shown[b]]
        for line, pen in ((width + 2, _DARK), (width, color)):
            for a, b in limbs:
                cv2.line(out, tuple(fixed[a]), tuple(fixed[b]), pen, line, cv2.LINE_AA, _SHIFT)
        for point in fixed[shown]:
            for radius, pen in ((width + 2, _DARK), (width + 1, _LIGHT)):
                center = tuple(point)
                cv2.circle(out, center, radius << _SHIFT, pen, -1, cv2.LINE_AA, _SHIFT)
        if labels is not None and (boxes is not None or shown.any()):
            corner = points[shown].min(0) if boxes is None else boxes[person, :2]
            # the size of the person, but neither too small to read nor too large beside others
            height = min(max(extent / 12, side / 60), side / 32)
            texts.append((labels[person], corner, max(height, _LEAST_TEXT), color))
    for label in texts:  # above everybody's lines
        _put_label(out, *label)
    return out


def _put_label(
    image: np.ndarray, text: str, corner: np.ndarray, height: float, color: tuple[int, int, int]
) -> None:
    """Write text with capitals of that height on a plate above a corner, inside the image."""
    scale, pen = height / _FONT_HEIGHT, max(1, round(height / 8))
    (width, tall), below = cv2.getTextSize(text, _FONT, scale, pen)
    pad = max(2, round(height / 5))
    plate = np.array([width + 2 * pad, tall + below // 2 + 2 * pad])
    room = np.maximum(np.array(image.shape[1::-1]) - plate, 0)
    left, top = np.clip(np.round(corner - (0, plate[1])).astype(int), 0, room)
    end = int(left + plate[0]), int(top + plate[1])
    cv2.rectangle(image, (int(left), int(top)), end, color, -1)
    light = np.dot(color, (0.114, 0.587, 0.299)) < 140
    place = int(left + pad), int(top + pad + tall)
    cv2.putText(image, text, place, _FONT, scale, _LIGHT if light else _DARK, pen, cv2.LINE_AA)


def contact_sheet(
    images: Sequence[np.ndarray],
    columns: int,
    cell: tuple[int, int],
    captions: Sequence[str] = (),
) -> np.ndarray:
    """Arrange images in a grid.

    Args:
        images: (H, W, 3) uint8 images of any size.
        columns: of the grid.
        cell: (w, h) of every cell in pixels; images keep their aspect ratio.
        captions: a short line under each image, or none.

    Returns:
        The grid, (H, W, 3) uint8.

    Raises:
        ValueError: if there is no image or no column.
    """
    if not images or columns < 1:
        raise ValueError(f'a contact sheet needs images and columns, got {len(images)}, {columns}')
    width, height = cell
    margin, text = 4, 18 if captions else 0
    rows = -(-len(images) // columns)
    size = (rows * (height + text + margin) + margin, columns * (width + margin) + margin, 3)
    sheet = np.full(size, 245, np.uint8)
    for i, image in enumerate(images):
        top = margin + i // columns * (height + text + margin)
        left = margin + i % columns * (width + margin)
        scale = min(width / image.shape[1], height / image.shape[0])
        w, h = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
        how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        y, x = top + (height - h) // 2, left + (width - w) // 2
        sheet[y : y + h, x : x + w] = cv2.resize(image, (w, h), interpolation=how)
        if captions:
            place = (left + 2, top + height + text - 5)
            cv2.putText(
                sheet,
                captions[i],
                place,
                cv2.FONT_HERSHEY_SIMPLEX,
                0.42,
                (40, 40, 40),
                1,
                cv2.LINE_AA,
            )
    return sheet
