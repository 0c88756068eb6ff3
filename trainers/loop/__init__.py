"""The training loop: transformers' trainer, told what to do."""
