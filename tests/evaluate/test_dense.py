import numpy as np

from onesearch.evaluate.dense import Dense


def test_ranks_by_cosine_not_by_length(make_search):
    """The inner product would put the long vectors first; brute-force cosine in float64 decides."""
    rng = np.random.default_rng(0)
    items = (rng.normal(size=(30, 8)) * rng.uniform(0.1, 50, size=(30, 1))).astype(np.float32)
    vectors = {f"query {number}": rng.normal(size=8) * 3 for number in range(5)}
    encoded = []

    def encode(texts):
        encoded.extend(texts)
        return np.stack([vectors[text] for text in texts])

    queries = ["query 3", "query 0", "query 3", "query 4"]
    answers = Dense(items, encode).rank([make_search(query) for query in queries], 7)
    unit = items.astype(np.float64) / np.linalg.norm(items.astype(np.float64), axis=1, keepdims=True)
    assert answers == [np.argsort(-unit @ vectors[query])[:7].tolist() for query in queries]
    assert encoded == ["query 3", "query 0", "query 4"]  # each once


def test_small_catalogue_and_no_search(make_search):
    """Three items for k = 10: all of them and no -1 behind; a zero vector is no division by zero."""
    ranker = Dense(np.array([[0, 0], [1, 0], [1, 1]], np.float32), lambda texts: np.array([[1.0, 0.0]]), name="encoder")
    assert ranker.name == "encoder"
    assert ranker.rank([make_search("x")], 10) == [[1, 2, 0]]
    assert ranker.rank([], 10) == []
