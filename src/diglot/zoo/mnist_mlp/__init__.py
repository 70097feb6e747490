"""The small MLP on MNIST."""
