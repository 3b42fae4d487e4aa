"""Inference and training step of one network with JAX, PyTorch or TensorFlow, each in that
framework's fastest idiom.

Import it after ``KERAS_BACKEND`` is set; each engine imports only its own framework.
"""

from __future__ import annotations

import functools
import math
import os

import keras
import numpy as np

from alexnet_keras.models.alexnet import build

LEARNING_RATE = 1e-3
MOMENTUM = 0.9
WEIGHT_DECAY = 5e-4
BIAS_MULTIPLIER = 2.0
POLICIES = {"float32": "float32", "tf32": "float32", "bfloat16": "mixed_bfloat16"}


def mean_loss(labels, logits):
    """Mean cross-entropy of (batch, classes) logits, in float32."""
    return keras.ops.mean(
        keras.losses.sparse_categorical_crossentropy(
            labels, keras.ops.cast(logits, "float32"), from_logits=True
        )
    )


def updated(weight, velocity, gradient, is_bias: bool):
    """Weight and velocity after a step of ``alexnet_keras.training.optimizer.MomentumSGD``, with
    weight decay coupled to the momentum.
    """
    rate, decay = (
        (LEARNING_RATE * BIAS_MULTIPLIER, 0.0) if is_bias else (LEARNING_RATE, WEIGHT_DECAY)
    )
    velocity = MOMENTUM * velocity - rate * (gradient + decay * weight)
    return weight + velocity, velocity


class Engine:
    """A network of ``architecture`` that outputs logits; ``precision`` is a key of ``POLICIES``.

    ``infer(x)`` and ``train(x, labels)`` may return before the device has finished; pass their
    result to ``wait``.
    """

    def __init__(self, architecture, classes: int, precision: str, compiled: bool):
        keras.config.set_dtype_policy(POLICIES[precision])
        self.gemm_dtype = "bfloat16" if precision == "bfloat16" else "float32"
        self._prepare(tf32=precision != "float32")
        self.tf32 = precision != "float32" if self.on_gpu else None
        size = architecture.input_size
        self.model = build(
            architecture, keras.Input((size, size, 3)), classes, classifier_activation=None
        )
        self.biases = [
            variable.path.endswith("bias") for variable in self.model.trainable_variables
        ]
        self._compile(compiled)

    def put(self, array: np.ndarray):
        """Copy an array to the device."""
        return keras.ops.convert_to_tensor(array)

    def gemm(self, size: int):
        """A function that multiplies two square matrices in this engine's precision."""
        matrix = self.put(np.random.default_rng(0).standard_normal((size, size), np.float32))
        return functools.partial(self._multiply, *[keras.ops.cast(matrix, self.gemm_dtype)] * 2)

    def peak_bytes(self) -> int | None:
        """Peak device memory so far in bytes, None if the framework does not report it."""


class JaxEngine(Engine):
    """Compiled by XLA, with donated weights and velocities, so that they are updated in place."""

    def _prepare(self, tf32: bool) -> None:
        import jax

        jax.config.update("jax_default_matmul_precision", None if tf32 else "highest")
        self.device = jax.devices()[0]
        self.version = jax.__version__
        self.on_gpu = self.device.platform == "gpu"
        self.name = self.device.device_kind if self.on_gpu else f"CPU, {os.cpu_count()} cores"
        self.wait = jax.block_until_ready
        self._multiply = jax.jit(jax.numpy.matmul)

    def _compile(self, compiled: bool) -> None:
        import jax

        # Donating the model's own buffers would invalidate its variables.
        self.weights = [
            jax.numpy.copy(variable.value) for variable in self.model.trainable_variables
        ]
        self.velocities = [jax.numpy.zeros_like(weight) for weight in self.weights]
        self.seeds = [
            jax.numpy.copy(variable.value) for variable in self.model.non_trainable_variables
        ]
        self._infer = jax.jit(
            lambda weights, seeds, x: self.model.stateless_call(weights, seeds, x, training=False)[
                0
            ]
        )
        self._step = jax.jit(self._stateless_step, donate_argnums=(0, 1, 2))

    def _stateless_step(self, weights, velocities, seeds, x, labels):
        import jax

        def loss(weights):
            logits, new_seeds = self.model.stateless_call(weights, seeds, x, training=True)
            return mean_loss(labels, logits), new_seeds

        (value, new_seeds), gradients = jax.value_and_grad(loss, has_aux=True)(weights)
        pairs = list(map(updated, weights, velocities, gradients, self.biases))
        return (
            [weight for weight, _ in pairs],
            [velocity for _, velocity in pairs],
            new_seeds,
            value,
        )

    def infer(self, x):
        return self._infer(self.weights, self.seeds, x)

    def train(self, x, labels):
        self.weights, self.velocities, self.seeds, loss = self._step(
            self.weights, self.velocities, self.seeds, x, labels
        )
        return loss

    def peak_bytes(self) -> int | None:
        return (self.device.memory_stats() or {}).get("peak_bytes_in_use")


class TorchEngine(Engine):
    """Eager, or with ``compiled`` through ``torch.compile``."""

    def _prepare(self, tf32: bool) -> None:
        import torch

        torch.set_float32_matmul_precision("high" if tf32 else "highest")
        torch.backends.cudnn.allow_tf32 = tf32
        torch.backends.cudnn.benchmark = True  # shapes are few and fixed
        self.torch = torch
        self.version = torch.__version__
        self.on_gpu = torch.cuda.is_available()
        self.name = torch.cuda.get_device_name() if self.on_gpu else f"CPU, {os.cpu_count()} cores"
        self._multiply = torch.matmul

    def _compile(self, compiled: bool) -> None:
        self.weights = [variable.value for variable in self.model.trainable_variables]
        self.velocities = [self.torch.zeros_like(weight) for weight in self.weights]
        self._call = self.torch.compile(self.model) if compiled else self.model

    def infer(self, x):
        with self.torch.no_grad():
            return self._call(x, training=False)

    def train(self, x, labels):
        loss = mean_loss(labels, self._call(x, training=True))
        gradients = self.torch.autograd.grad(loss, self.weights)
        with self.torch.no_grad():
            for weight, velocity, gradient, bias in zip(
                self.weights, self.velocities, gradients, self.biases, strict=True
            ):
                rate, decay = (
                    (LEARNING_RATE * BIAS_MULTIPLIER, 0.0)
                    if bias
                    else (LEARNING_RATE, WEIGHT_DECAY)
                )  # updated(), in place
                velocity.mul_(MOMENTUM).add_(gradient, alpha=-rate).add_(
                    weight, alpha=-rate * decay
                )
                weight.add_(velocity)
        return loss.detach()

    def wait(self, result) -> None:
        if self.on_gpu:
            self.torch.cuda.synchronize()

    def peak_bytes(self) -> int | None:
        return self.torch.cuda.max_memory_allocated() if self.on_gpu else None


class TensorflowEngine(Engine):
    """A ``tf.function``, compiled by XLA if ``compiled``."""

    def _prepare(self, tf32: bool) -> None:
        import tensorflow as tf

        tf.config.experimental.enable_tensor_float_32_execution(tf32)
        self.tf = tf
        self.version = tf.__version__
        gpus = tf.config.list_physical_devices("GPU")
        self.on_gpu = bool(gpus)
        details = tf.config.experimental.get_device_details(gpus[0]) if gpus else {}
        self.name = details.get("device_name", f"CPU, {os.cpu_count()} cores")
        self._multiply = tf.function(tf.linalg.matmul)

    def _compile(self, compiled: bool) -> None:
        self.weights = [variable.value for variable in self.model.trainable_variables]
        self.velocities = [self.tf.Variable(self.tf.zeros_like(weight)) for weight in self.weights]
        self.infer = self.tf.function(
            functools.partial(self.model, training=False), jit_compile=compiled
        )
        self.train = self.tf.function(self._step, jit_compile=compiled)

    def put(self, array: np.ndarray):
        return self.tf.identity(array)  # tf.constant alone may leave the array on the host

    def _step(self, x, labels):
        with self.tf.GradientTape() as tape:
            loss = mean_loss(labels, self.model(x, training=True))
        gradients = tape.gradient(loss, self.weights)
        for weight, velocity, gradient, bias in zip(
            self.weights, self.velocities, gradients, self.biases, strict=True
        ):
            new_weight, new_velocity = updated(weight, velocity, gradient, bias)
            weight.assign(new_weight)
            velocity.assign(new_velocity)
        return loss

    def wait(self, result) -> None:
        result.numpy()  # copying the last result waits for all earlier ones
        if self.on_gpu:
            self.tf.test.experimental.sync_devices()

    def peak_bytes(self) -> int | None:
        return (
            self.tf.config.experimental.get_memory_info("GPU:0")["peak"] if self.on_gpu else None
        )


ENGINES = {"jax": JaxEngine, "torch": TorchEngine, "tensorflow": TensorflowEngine}


def forward_flops(model) -> list[int]:
    """Floating-point operations per image of each layer with weights, in order."""
    weighted = [layer for layer in model.layers if hasattr(layer, "kernel")]
    return [
        2 * math.prod(layer.kernel.shape) * math.prod(layer.output.shape[1:-1])
        for layer in weighted
    ]


def training_flops(model) -> int:
    """Floating-point operations per image of forward and backward.

    Each layer computes two gradients, except the first, which needs none for its input.
    """
    flops = forward_flops(model)
    return 3 * sum(flops) - flops[0]
