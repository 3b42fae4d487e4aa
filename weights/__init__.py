"""From any published weight file to a ready network, and back."""
