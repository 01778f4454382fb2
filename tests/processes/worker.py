"""Fits of one process of several: started by the tests, with what torchrun would tell it in the environment."""

import pickle
import sys
import warnings
from pathlib import Path

import torch

torch.set_num_threads(1)
warnings.simplefilter("ignore")

import cases  # noqa: E402  beside this file


def main(names: list[str], folder: Path) -> None:
    rank = torch.distributed.get_rank() if torch.distributed.is_initialized() else None
    found = {name: cases.run(name) for name in names}
    rank = torch.distributed.get_rank()
    (folder / f"{rank}.pickle").write_bytes(pickle.dumps(found))


if __name__ == "__main__":
    main(sys.argv[2:], Path(sys.argv[1]))
