"""What a training run leaves behind: its folder, its figures, its reports."""
