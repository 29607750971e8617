"""Metadata of images: EXIF, XMP, IPTC, text, geographic position."""
