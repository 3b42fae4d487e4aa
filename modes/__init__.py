"""The three ways to use the network, each a short story of its own."""
