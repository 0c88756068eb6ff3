"""Speed against peers. Nothing imports this."""
