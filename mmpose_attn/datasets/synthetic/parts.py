"""COCO's keypoints, and the parts of the body that the owner buffer tells apart."""

# fmt: off
KEYPOINTS = (
    'nose', 'left_eye', 'right_eye', 'left_ear', 'right_ear', 'left_shoulder', 'right_shoulder',
    'left_elbow', 'right_elbow', 'left_wrist', 'right_wrist', 'left_hip', 'right_hip',
    'left_knee', 'right_knee', 'left_ankle', 'right_ankle')
SKELETON = (
    (16, 14), (14, 12), (17, 15), (15, 13), (12, 13), (6, 12), (7, 13), (6, 7), (6, 8), (7, 9),
    (8, 10), (9, 11), (2, 3), (1, 2), (1, 3), (2, 4), (3, 5), (4, 6), (5, 7))
# fmt: on

# Body parts as they are recorded in the owner buffer: ``entity * PARTS + part``.
PARTS = 32
HEAD, NECK, TORSO, PELVIS, SKIRT, HAIR = range(6)
UPPER_ARM, FOREARM, HAND, THIGH, SHIN, FOOT = 6, 8, 10, 12, 14, 16  # + 0 left, + 1 right
# The parts that meet at each keypoint and so do not hide it.
ADJACENT = tuple(
    [{HEAD}] * 5
    + [
        {base + side for base in limbs} | trunk
        for limbs, trunk in (
            ((UPPER_ARM,), {TORSO, NECK}),
            ((UPPER_ARM, FOREARM), set()),
            ((FOREARM, HAND), set()),
            ((THIGH,), {PELVIS, TORSO, SKIRT}),
            ((THIGH, SHIN), set()),
            ((SHIN, FOOT), set()),
        )
        for side in (0, 1)
    ]
)
