"""What the tests share: one thread for torch, since the networks are tiny."""

import torch

torch.set_num_threads(1)
