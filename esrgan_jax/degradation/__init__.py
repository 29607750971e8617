"""Random degradations of training images, on the device."""
