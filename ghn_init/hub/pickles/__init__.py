"""Reading pickled checkpoints: tensors and plain values come out, and nothing that a file names is called."""
