"""Pictures, videos and streams from outside: known by their first bytes, and met with limits.

Nothing here imports the rest of the package, so that a process that only decodes starts quickly.
"""

from .files import Picture, open_media
from .kinds import Kind, sniff
from .limits import ORDINARY, Limits, MediaError, UnknownKind, UnreadKind
from .live import LiveStream, is_address, shown
from .pictures import read_picture
from .videos import Shot, Video

__all__ = [
    'ORDINARY',
    'Kind',
    'Limits',
    'LiveStream',
    'MediaError',
    'Picture',
    'Shot',
    'UnknownKind',
    'UnreadKind',
    'Video',
    'is_address',
    'open_media',
    'read_picture',
    'shown',
    'sniff',
]
