"""From a formula's log-probabilities to the next token, and whether it is the last one."""
