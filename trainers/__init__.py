"""From preference data to operands: what a formula names is trained here."""
