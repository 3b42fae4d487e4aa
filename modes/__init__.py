"""The commands as functions, one module each: the three ways to use the network (scratch, transfer
and extract), evaluate and predict. Each module begins with what its mode does and when to use it.
"""
