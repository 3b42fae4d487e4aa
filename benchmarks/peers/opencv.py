"""OpenCV's DNN module on CPU."""

from __future__ import annotations

import cv2
import numpy as np

from alexnet_keras.configs.architecture import Architecture
from benchmarks.peers import Network
from benchmarks.peers.onnx_graph import channels_first, onnx_model
from weights.canonical import Layers


def network(architecture: Architecture, weights: Layers, batch_size: int, threads: int) -> Network:
    cv2.setNumThreads(threads)
    opened = cv2.dnn.readNetFromONNX(
        np.frombuffer(onnx_model(architecture, weights, batch_size), np.uint8)
    )

    def infer(images: np.ndarray) -> np.ndarray:
        opened.setInput(images)
        return opened.forward()

    return Network(channels_first, infer)
