"""Checks that a progressive JPEG has all of its scans."""

from esrgan_jax.images.formats.jpeg_structure import END, SEGMENT, START_OF_SCAN

COEFFICIENTS = 64  # of a block


def all_scans(data: bytes, frame: int, scan: int) -> bool:
    """Returns whether the scans contain every bit of every coefficient of all components.

    Args:
        data: A progressive JPEG.
        frame: Offset of the frame header in it.
        scan: Offset of the first scan in it.
    """
    count, at = data[frame + 9], scan
    missing = {  # low bits that no scan has contained yet; at first just not 0
        (component, k): 1
        for component in data[frame + 10 : frame + 10 + 3 * count : 3]
        for k in range(COEFFICIENTS)
    }
    while at + 8 < len(data):
        marker = data[at + 1]
        if marker == END:
            break
        if marker == START_OF_SCAN:
            named = 2 * data[at + 4]
            first, last, low = data[at + 5 + named : at + 8 + named]
            for component in data[at + 5 : at + 5 + named : 2]:
                missing |= {(component, k): low & 15 for k in range(first, min(last, 63) + 1)}
        following = SEGMENT.search(data, at + 2 + int.from_bytes(data[at + 2 : at + 4]))
        if following is None:
            break
        at = following.end() - 2
    return not any(missing.values())
