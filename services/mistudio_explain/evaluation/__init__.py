"""The bench: measures on real features what the validator's figures are worth."""
