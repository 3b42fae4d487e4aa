"""OpenVINO in its fastest setting for this network: fixed shape, latency hint, float32."""

from __future__ import annotations

import openvino

from alexnet_keras.configs.architecture import Architecture
from benchmarks.peers import Network
from benchmarks.peers.onnx_graph import channels_first, onnx_model
from weights.canonical import Layers


def network(architecture: Architecture, weights: Layers, batch_size: int, threads: int) -> Network:
    core = openvino.Core()
    compiled = core.compile_model(
        core.read_model(onnx_model(architecture, weights, batch_size)),
        "CPU",
        {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32",
            "INFERENCE_NUM_THREADS": threads,
        },
    )
    request = compiled.create_infer_request()
    return Network(channels_first, lambda images: request.infer([images], share_inputs=True)[0])
