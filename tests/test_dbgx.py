from tests.test_precision import *


def h():
    return hashlib.sha256((paths.quantised("small") / "network.bin").read_bytes()).hexdigest()[:10]


def test_x(empty_folder):
    settings({"full": None, "small": "int8"}, engine="openvino")
    place("full", "small")
    prepare(TRAIN)
    run("full")
    a = tree(paths.embeddings("full"))
    for i in range(3):
        run("small")
        print("after small", h(), cosines(vectors("small"), vectors("full")).min())
    assert 0
