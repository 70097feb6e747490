"""The same graph as TensorFlow 1 ran it: placeholders, a session, a feed_dict."""

import tensorflow as tf

tf1 = tf.compat.v1


def build():
    """z = (x + y) · 2 as a function of x and y, and its graph."""
    graph = tf.Graph()
    with graph.as_default():
        x = tf1.placeholder(tf.float32, name="x")
        y = tf1.placeholder(tf.float32, name="y")
        z = tf.multiply(x + y, 2.0, name="z")
    session = tf1.Session(graph=graph)

    def call(x_value, y_value):
        return session.run(z, feed_dict={x: x_value, y: y_value})

    operations = graph.get_operations()
    return call, [(o.name, o.type, [i.op.name for i in o.inputs]) for o in operations]
