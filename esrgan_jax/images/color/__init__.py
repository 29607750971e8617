"""What the numbers of an image mean: ICC profiles, and the tags that stand in for one."""
