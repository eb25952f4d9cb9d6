"""What :mod:`ghn_init.assign` is made of: targets, the undo journal, materialisation of meta models."""
