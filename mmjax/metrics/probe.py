"""What frozen features are worth: scores of classes by a linear map fitted to them, and by nearest neighbours. Plain numpy."""

import numpy as np
from jaxtyping import Float, Int


def linear(
    train: Float[np.ndarray, "N D"],
    labels: Int[np.ndarray, " N"],
    test: Float[np.ndarray, "M D"],
    classes: int,
    *,
    l2: float,
    iterations: int = 1000,
) -> Float[np.ndarray, "M classes"]:
    """Logits of `test` by multinomial logistic regression on `train`, fitted by L-BFGS (CLIP, arXiv 2103.00020, appendix A.3).

    The minimum of mean cross-entropy + l2 / 2 |W|^2 over W (D, classes) and a bias that is not penalised; scikit-learn's C is
    1 / (l2 N). Features are centred and divided by their standard deviation over all entries, both of `train`: one l2 then
    means much the same for every encoder.

    Args:
      l2: strength of the penalty.
      iterations: at most.
    """
    from scipy.optimize import minimize

    mean, deviation = train.mean(0), train.std() + 1e-12
    x, width = (train - mean).astype(np.float64) / deviation, train.shape[1]
    x = np.concatenate([x, np.ones((len(x), 1))], 1)
    target = np.zeros((len(x), classes))
    target[np.arange(len(x)), labels] = 1

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        w = flat.reshape(width + 1, classes)
        logits = x @ w
        log = logits - logits.max(1, keepdims=True)
        log -= np.log(np.exp(log).sum(1, keepdims=True))
        gradient = x.T @ (np.exp(log) - target) / len(x)
        gradient[:-1] += l2 * w[:-1]
        return -(target * log).sum() / len(x) + l2 / 2 * np.square(w[:-1]).sum(), gradient.ravel()

    found = minimize(loss, np.zeros((width + 1) * classes), jac=True, method="L-BFGS-B", options={"maxiter": iterations})
    w = found.x.reshape(width + 1, classes)
    return (test - mean) / deviation @ w[:-1] + w[-1]


def neighbours(
    train: Float[np.ndarray, "N D"],
    labels: Int[np.ndarray, " N"],
    test: Float[np.ndarray, "M D"],
    classes: int,
    *,
    k: int = 20,
    temperature: float = 0.07,
    tile: int = 1024,
) -> Float[np.ndarray, "M classes"]:
    """Votes of the `k` nearest of `train` by cosine, each exp(cosine / temperature) for its class.

    (Wu et al. 2018, arXiv 1805.01978, section 3.4; k 20 and 0.07 are DINO's, arXiv 2104.14294, appendix.)
    """
    k = min(k, len(train))
    train, test = (x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12) for x in (train, test))
    votes = np.zeros((len(test), classes))
    for start in range(0, len(test), tile):
        cosine = test[start : start + tile] @ train.T
        near = np.argpartition(-cosine, k - 1, axis=1)[:, :k]
        weight = np.exp(np.take_along_axis(cosine, near, 1) / temperature)
        rows = np.broadcast_to(np.arange(start, start + len(near))[:, None], near.shape)
        np.add.at(votes, (rows, labels[near]), weight)
    return votes
