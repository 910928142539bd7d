"""Rounds of federated averaging in pfl-research, for comparison; run by ../_peers.py.

    python pfl_rounds.py CLIENTS.npz {mlp,cnn} COHORT BATCH LEARNING_RATE THREADS

It needs a Python of its own with the packages of requirements.txt. For each number that it reads
from standard input it runs so many rounds and answers with the seconds they took.
"""

import sys
import time

import numpy as np
import torch
from pfl.aggregate.simulate import SimulatedBackend
from pfl.algorithm.base import NNAlgorithmParams
from pfl.algorithm.federated_averaging import FederatedAveraging
from pfl.data.dataset import Dataset
from pfl.data.federated_dataset import FederatedDataset
from pfl.data.sampling import get_user_sampler
from pfl.hyperparam import NNTrainHyperParams
from pfl.metrics import Weighted
from pfl.model.pytorch import PyTorchModel
from torch import nn

MODELS = {
    "mlp": lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10)),
    "cnn": lambda: nn.Sequential(
        nn.Conv2d(1, 32, 3),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(9216, 128),
        nn.ReLU(),
        nn.Linear(128, 62),
    ),
}


class Classifier(nn.Module):
    """A network with the two methods that pfl wants."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def loss(self, x, y, eval=False):
        """The sum over a batch; pfl divides it."""
        del eval
        return nn.functional.cross_entropy(self.network(x), y)

    def metrics(self, x, y, eval=False):
        """Nothing is evaluated while rounds are timed; pfl asks all the same."""
        del eval
        with torch.no_grad():
            return {"loss": Weighted(self.loss(x, y).item() * len(x), len(x))}


def main():
    """Runs what it is asked for."""
    path, model, cohort, batch, rate, threads = sys.argv[1:]
    answers, sys.stdout = sys.stdout, sys.stderr  # where pfl prints what it thinks of each round
    torch.set_num_threads(int(threads))
    stored = np.load(path)
    labels = np.split(stored["labels"], stored["ends"][:-1])
    features = np.split(stored["features"], stored["ends"][:-1])
    if model == "cnn":
        features = [np.moveaxis(one, -1, 1) for one in features]
    clients = [
        Dataset([torch.from_numpy(np.ascontiguousarray(x)), torch.from_numpy(y)])
        for x, y in zip(features, labels, strict=True)
    ]
    sampler = get_user_sampler("minimize_reuse", list(range(len(clients))))
    dataset = FederatedDataset(clients.__getitem__, sampler)
    network = Classifier(MODELS[model]())
    trained = PyTorchModel(
        network,
        torch.optim.SGD,
        central_optimizer=torch.optim.SGD(network.parameters(), 1.0),
    )
    backend = SimulatedBackend(training_data=dataset, val_data=None)
    settings = NNTrainHyperParams(
        local_num_epochs=1, local_learning_rate=float(rate), local_batch_size=int(batch)
    )
    for line in sys.stdin:
        rounds = NNAlgorithmParams(
            central_num_iterations=int(line),
            evaluation_frequency=10**9,
            train_cohort_size=int(cohort),
            val_cohort_size=None,
        )
        started = time.perf_counter()
        FederatedAveraging().run(
            algorithm_params=rounds,
            backend=backend,
            model=trained,
            model_train_params=settings,
            model_eval_params=None,
        )
        print(time.perf_counter() - started, file=answers, flush=True)


if __name__ == "__main__":
    main()
