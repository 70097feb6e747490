"""Matrices: factors, inverses, solutions."""

from __future__ import annotations

from typing import Any

import torch

from diglot.frontends.tensorflow.ops.registry import Call, Sample, op


def _definite(r: Any, x: Any) -> Any:
    """A positive definite matrix made of any."""
    square = r.BatchMatMulV2(x=x, y=x, adj_y=True)
    return r.AddV2(x=square, y=r.Cast(x=[[4, 0, 0], [0, 4, 0], [0, 0, 4]], DstT=x.dtype))


@op(
    "MatrixInverse",
    samples=(
        Sample(lambda r, x: r.MatrixInverse(input=_definite(r, x)), ("2,3,3",), fixed=True),
        Sample(lambda r, x: r.MatrixInverse(input=x, adjoint=True), ("2,3,3",), fixed=True),
    ),
)
def matrix_inverse(call: Call, x: Any) -> Any:
    x = call.tensor(x)
    return torch.linalg.inv(x.mH if call.attrs.get("adjoint") else x)


@op(
    "MatrixDeterminant",
    samples=(Sample(lambda r, x: r.MatrixDeterminant(input=x), ("2,3,3",), fixed=True),),
)
def matrix_determinant(call: Call, x: Any) -> Any:
    return torch.linalg.det(call.tensor(x))


@op(
    "LogMatrixDeterminant",
    samples=(
        Sample(
            lambda r, x: r.LogMatrixDeterminant(input=_definite(r, x))[1], ("2,3,3",), fixed=True
        ),
    ),
)
def log_matrix_determinant(call: Call, x: Any) -> Any:
    sign, logarithm = torch.linalg.slogdet(call.tensor(x))
    return sign, logarithm


@op(
    "Cholesky",
    samples=(Sample(lambda r, x: r.Cholesky(input=_definite(r, x)), ("2,3,3",), fixed=True),),
)
def cholesky(call: Call, x: Any) -> Any:
    return torch.linalg.cholesky(call.tensor(x))


@op(
    "MatrixSolve",
    samples=(
        Sample(
            lambda r, x, y: r.MatrixSolve(matrix=_definite(r, x), rhs=y),
            ("2,3,3", "2,3,5"),
            fixed=True,
        ),
        Sample(
            lambda r, x, y: r.MatrixSolve(matrix=x, rhs=y, adjoint=True),
            ("2,3,3", "2,3,1"),
            fixed=True,
        ),
    ),
)
def matrix_solve(call: Call, x: Any, y: Any) -> Any:
    x = call.tensor(x)
    return torch.linalg.solve(x.mH if call.attrs.get("adjoint") else x, call.tensor(y))


@op(
    "MatrixTriangularSolve",
    samples=(
        Sample(
            lambda r, x, y: r.MatrixTriangularSolve(
                matrix=r.Cholesky(input=_definite(r, x)), rhs=y, lower=True
            ),
            ("2,3,3", "2,3,5"),
            fixed=True,
        ),
        Sample(
            lambda r, x, y: r.MatrixTriangularSolve(
                matrix=r.Cholesky(input=_definite(r, x)), rhs=y, lower=True, adjoint=True
            ),
            ("2,3,3", "2,3,5"),
            fixed=True,
        ),
    ),
)
def matrix_triangular_solve(call: Call, x: Any, y: Any) -> Any:
    x, lower = call.tensor(x), bool(call.attrs.get("lower", True))
    if call.attrs.get("adjoint"):
        x, lower = x.mH, not lower
    return torch.linalg.solve_triangular(x, call.tensor(y), upper=not lower)
