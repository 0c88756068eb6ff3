"""From encoded rows to the scores of their answers, with gradients."""
