"""thingsvision's extraction, run by a Python of its own: its requirements (NumPy 1, TensorFlow
2.15) exclude ours.

    python thingsvision_extraction.py FOLDER LAYER BATCH_SIZE THREADS

Extracts all images of FOLDER once for each line on stdin, and prints how many there are.
"""

import contextlib
import os
import sys
from importlib.metadata import version


def main(folder, layer, batch_size, threads):
    os.environ["OMP_NUM_THREADS"] = threads
    import torch
    from thingsvision import get_extractor
    from thingsvision.utils.data import DataLoader, ImageDataset
    from thingsvision.utils.storing import save_features

    torch.set_num_threads(int(threads))
    # Untrained: the numbers do not change the time.
    extractor = get_extractor(
        model_name="alexnet", source="torchvision", device="cpu", pretrained=False
    )
    out = os.path.join(folder, "thingsvision")

    def extract():
        dataset = ImageDataset(
            root=os.path.join(folder, "images"),
            out_path=out,
            backend=extractor.get_backend(),
            transforms=extractor.get_transformations(resize_dim=256, crop_dim=224),
        )
        batches = DataLoader(dataset, batch_size=int(batch_size), backend=extractor.get_backend())
        features = extractor.extract_features(
            batches=batches, module_name=layer, flatten_acts=True, output_type="ndarray"
        )
        save_features(features, out_path=out, file_format="npy")
        return len(features)

    print(f"thingsvision {version('thingsvision')}, torch {torch.__version__}", file=ours)
    for _ in sys.stdin:
        print(extract(), file=ours, flush=True)


if __name__ == "__main__":
    ours = os.fdopen(os.dup(1), "w")
    with contextlib.redirect_stdout(sys.stderr):
        ours.reconfigure(line_buffering=True)
        main(*sys.argv[1:])
