"""Weight files of other projects: read and written as data, never executed."""
