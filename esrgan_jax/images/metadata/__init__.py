"""What is known about an image beside its pixels: EXIF, XMP, IPTC, text, positions on Earth."""
