"""Speed against peers, measured in pairs within one process; nothing imports this package."""
