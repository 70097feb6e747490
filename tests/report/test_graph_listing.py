"""The listing of a TensorFlow graph that stands beside its translation."""

import numpy as np
import pytest

import diglot

tf = pytest.importorskip("tensorflow")


class Block(tf.Module):
    def __init__(self, size, name):
        super().__init__(name)
        rng = np.random.default_rng(len(name))
        with self.name_scope:
            self.w = tf.Variable(rng.normal(size=(size, size)).astype("float32"), name="w")
            self.b = tf.Variable(np.zeros(size, "float32"), name="b")
            self.gate = tf.Variable(rng.normal(size=(size, size)).astype("float32"), name="gate")

    @tf.Module.with_name_scope
    def __call__(self, x):
        return x + tf.nn.relu(x @ self.w + self.b) * tf.sigmoid(x @ self.gate)


class Net(tf.Module):
    def __init__(self):
        super().__init__("net")
        with self.name_scope:
            self.blocks = [Block(6, f"block_{i}") for i in range(2)]
            self.head = tf.Variable(np.ones((6, 2), "float32"), name="head")

    @tf.function(input_signature=[tf.TensorSpec([None, None, 6], tf.float32, name="tokens")])
    @tf.Module.with_name_scope
    def __call__(self, x):
        for block in self.blocks:
            x = block(x)
        return tf.nn.softmax(tf.reduce_mean(x, 1) @ self.head)


@pytest.fixture(scope="module")
def translation():
    net = Net()  # the function holds it weakly
    return diglot.translate(net.__call__.get_concrete_function(), to="torch")


def paired(translation):
    """(line of the listing, line of the program) that stand for each other."""
    ((_, source),) = translation.info["sources"].items()
    theirs, ours = source["text"].splitlines(), translation.source.splitlines()
    return {
        (theirs[p["source_line"] - 1].strip(), ours[p["target_line"] - 1].strip())
        for p in translation.info["lines"]
    }


def test_scopes_are_headings_above_their_ops(translation):
    ((name, source),) = translation.info["sources"].items()
    lines = source["text"].splitlines()
    assert name.endswith(".txt")
    assert lines[0] == "tokens = Input()  # [?, ?, 6] float32"
    at = lines.index("  block_1/")
    assert lines[at + 1 : at + 4] == [
        "    w = Variable()  # [6, 6] float32",
        "    matmul = BatchMatMulV2(block_0/add_1, w)  # [?, ?, 6] float32",
        "    b = Variable()  # [6] float32",
    ]
    assert "  Mean = Mean(block_1/add_1, 1)  # [?, 6] float32" in lines
    assert lines[-1].startswith("return net/Softmax")


def test_every_op_stands_beside_what_became_of_it(translation):
    pairs = paired(translation)
    statement = "x = F.relu(self.w(tokens)) * torch.sigmoid(self.gate(tokens))"
    for op in ("add = AddV2(matmul, b)", "Relu = Relu(add)", "Sigmoid = Sigmoid(matmul_1)"):
        assert (f"{op}  # [?, ?, 6] float32", statement) in pairs
    assert ("b = Variable()  # [6] float32", "self.w = nn.Linear(6, 6)") in pairs
    assert ("Mean = Mean(block_1/add_1, 1)  # [?, 6] float32", statement) not in pairs
    assert ("block_1/", "self.block_1 = Block()") in pairs
    # A statement that calls a block stands beside the block, not beside each op within.
    calls = {ours for theirs, ours in pairs if theirs.startswith("Relu = ")}
    assert calls == {statement}


def test_the_page_shows_it_as_tensorflows(translation, tmp_path):
    translation.save(tmp_path / "out")
    page = (tmp_path / "out" / "pages.html").read_text()
    assert "TensorFlow and PyTorch on facing pages" in page
    assert "block_1/" in page and page.count('class="ln linked"') > 25


def test_a_long_line_is_continued_and_stays_one_op():
    @tf.function(input_signature=[tf.TensorSpec([None, 8, 8, 3], tf.float32, name="image")])
    def net(image):
        with tf.name_scope("a_scope_of_a_long_name/and_another_one_within"):
            kernel = tf.constant(np.ones((3, 3, 3, 4), "float32"), name="the_kernel_of_it")
            return tf.nn.conv2d(image, kernel, strides=[1, 2, 2, 1], padding="SAME")

    made = diglot.translate(net.get_concrete_function(), to="torch")
    ((_, source),) = made.info["sources"].items()
    assert all(len(line) < 110 for line in source["text"].splitlines())
    convolution = [pair for pair in paired(made) if 'padding="SAME"' in pair[0]]
    assert any("nn.Conv2d(3, 4, 3, stride=2" in ours for _, ours in convolution)
