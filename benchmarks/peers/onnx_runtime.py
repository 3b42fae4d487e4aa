"""ONNX Runtime on CPU, with all graph optimizations."""

from __future__ import annotations

import onnxruntime

from alexnet_keras.configs.architecture import Architecture
from benchmarks.peers import Network
from benchmarks.peers.onnx_graph import channels_first, onnx_model
from weights.canonical import Layers


def network(architecture: Architecture, weights: Layers, batch_size: int, threads: int) -> Network:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    session = onnxruntime.InferenceSession(
        onnx_model(architecture, weights, batch_size), options, providers=["CPUExecutionProvider"]
    )
    return Network(channels_first, lambda images: session.run(None, {"input": images})[0])
