"""What can be done with the network, each a short story of its own: the three ways to use it,
scratch, transfer and extract; and evaluate and predict.
"""
