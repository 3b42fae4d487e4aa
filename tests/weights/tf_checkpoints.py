"""Checkpoints of AlexNet as TensorFlow's own Saver writes them."""

import numpy as np
import tensorflow as tf

SHAPES = {
    "conv1": (11, 11, 3, 4),
    "conv2": (5, 5, 4, 6),
    "conv3": (3, 3, 6, 8),
    "conv4": (3, 3, 8, 8),
    "conv5": (3, 3, 8, 6),
    "fc6": (1, 1, 6, 10),
    "fc7": (1, 1, 10, 10),
    "fc8": (1, 1, 10, 7),
}
NEWEST = {"write_version": tf.compat.v1.train.SaverDef.V2}
OLDEST = {"write_version": tf.compat.v1.train.SaverDef.V1}


def random_arrays(seed=0, shapes=SHAPES):
    """``{"conv1/weights": kernel, "conv1/biases": bias ...}`` float32."""
    generator, arrays = np.random.default_rng(seed), {}
    for layer, shape in shapes.items():
        scale = np.float32(2 / np.prod(shape[:-1]) ** 0.5)
        arrays[f"{layer}/weights"] = generator.standard_normal(shape, np.float32) * scale
        arrays[f"{layer}/biases"] = generator.standard_normal(shape[-1], np.float32)
    return arrays


def save(prefix, arrays, scope="alexnet_v2/", beside=(), **options):
    """A checkpoint of ``arrays`` and, as training writes it, of what stands ``beside`` them
    ({name: array}, whole names). Returns the prefix.
    """
    values = {f"{scope}{name}": array for name, array in arrays.items()} | dict(beside)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        variables = [tf.compat.v1.get_variable(n, initializer=v) for n, v in values.items()]
        session.run(tf.compat.v1.global_variables_initializer())
        saver = tf.compat.v1.train.Saver(variables, **options)
        saver.save(session, str(prefix), write_meta_graph=False)
    return prefix
