"""Stationary kernels with automatic relevance determination over (optionally warped) feature columns.

`k(x, x') = s2 g(r2)`, `r2 = sum_c (f_c - f'_c)^2 / l_group(c)^2` over the feature columns c. Columns that
belong to one parameter share a lengthscale (see `kernels.distances`), which is what makes categorical and
conditional distances plain Euclidean ones, and the kernel positive definite by construction.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial

import torch
from torch import Tensor

from bayesopt.device import constant, put
from bayesopt.kernels import fused
from bayesopt.kernels.base import CrossCovariance, FeatureMap, Kernel, Pullback
from bayesopt.kernels.profiles import PROFILES, Matern52, Profile
from bayesopt.kernels.warping import kumaraswamy, kumaraswamy_and_partials


def squared_distance(Z1: Tensor, Z2: Tensor) -> Tensor:
    """`|z_i - z'_j|^2 (*b, m, n)` by one matrix product, up to rounding, which can make it negative.

    The expansion cancels for near points; callers scale features of order 1 by lengthscales of at least
    0.005, so the absolute error stays under 1e-11, far below the noise floor of the covariance.
    """
    sq1, sq2 = (Z1 * Z1).sum(-1, keepdim=True), (Z2 * Z2).sum(-1, keepdim=True)
    if Z1.dim() == 3 and Z1.shape[0] == Z2.shape[0] and Z2.dim() == 3 and not torch.is_grad_enabled():
        return (sq1 + sq2.mT).baddbmm_(Z1, Z2.mT, alpha=-2.0)
    return sq1 + sq2.mT - 2.0 * (Z1 @ Z2.mT)


def _gram(
    Z: Tensor, s2: Tensor, profile: Profile
) -> tuple[Tensor, Callable[[Tensor], tuple[Tensor, Tensor]]]:
    """K `(*b, n, n)` of scaled points `(*b, n, D)`, and its contraction with symmetric A, overwritten.

    The contraction is `P_i = sum_j A_ij s2 g'(r2_ij) (z_i - z_j)` `(*b, n, D)` and `sum(A * K)` `(*b, 1)`.
    """
    if fused.serves(Z, profile):
        return fused.covariance(Z, Z, s2, profile), partial(_fused_contraction, Z, s2, profile)
    g, slope = profile.g_and_slope(squared_distance(Z, Z))
    s2 = s2[..., None, None]
    K = g.mul_(s2)

    def contract(A: Tensor) -> tuple[Tensor, Tensor]:
        total = torch.linalg.vecdot(A.flatten(-2), K.flatten(-2))[..., None]
        A = A.mul_(slope)  # dL/dr2 but for s2
        AZ = (Z.mT @ A).mT  # A is symmetric; with few columns on the left the product is twice as fast
        return s2 * (A.sum(-1, keepdim=True) * Z - AZ), total

    return K, contract


def _gram_in_rows(
    Z: Tensor, s2: Tensor, profile: Profile, rows: int
) -> tuple[Tensor, Callable[[Tensor], tuple[Tensor, Tensor]]]:
    """Like `_gram`, so many rows at a time; keeps nothing and leaves A alone."""
    towards, parts = _towards(Z, s2, profile), Z.split(rows, -2)
    K = Z.new_empty(*Z.shape[:-1], Z.shape[-2])
    for part, target in zip(parts, K.split(rows, -2), strict=True):
        target.copy_(towards(part)[0])

    def contract(A: Tensor) -> tuple[Tensor, Tensor]:
        P, total = [], Z.new_zeros(Z.shape[:-2])
        for part, weights in zip(parts, A.split(rows, -2), strict=True):
            K_part, pull = towards(part)
            total = total + torch.linalg.vecdot(weights, K_part).sum(-1)
            P.append(pull(weights.clone()))
        return torch.cat(P, -2), total[..., None]

    return K, contract


def _fused_contraction(Z: Tensor, s2: Tensor, profile: Profile, A: Tensor) -> tuple[Tensor, Tensor]:
    P, total = fused.contraction(A, Z, Z, s2, profile)
    return P, total[..., None]


def _towards(
    Z2: Tensor, s2: Tensor, profile: Profile
) -> Callable[[Tensor], tuple[Tensor, Callable[[Tensor], Tensor]]]:
    """Like `_gram`, of any scaled points `(*b, m, D)` with Z2 `(*b, n, D)`; the contraction is P alone."""
    minus_2_Z2_T, sq2 = -2.0 * Z2.mT, (Z2 * Z2).sum(-1).unsqueeze(-2)
    scale = s2[..., None, None]

    def covariance(Z1: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        if fused.serves(Z1, profile):
            K = fused.covariance(Z1, Z2, s2, profile)
            return K, lambda A: fused.contraction(A, Z1, Z2, s2, profile)[0]
        r2 = (Z1 @ minus_2_Z2_T).add_(sq2).add_((Z1 * Z1).sum(-1).unsqueeze(-1))
        g, slope = profile.g_and_slope(r2)

        def contract(A: Tensor) -> Tensor:
            A = A.mul_(slope)
            return (A.sum(-1).unsqueeze(-1) * Z1).sub_(A @ Z2).mul_(scale)

        return g.mul_(scale), contract

    return covariance


@dataclass(frozen=True)
class Stationary(Kernel):
    """ARD kernel; theta = (ln l of each group, ln s2[, ln a of each group, ln b of each group]).

    Args:
        groups: lengthscale index of each column used, `0 .. G - 1`, every group at least once.
        columns: which feature columns are used; all, in order, by default.
        profile: a `Profile`, Matern 5/2 by default.
        warp: learn a Kumaraswamy warping of each group's columns.

    >>> kernel = Stationary(groups=(0, 1))
    >>> theta = torch.zeros(3)
    >>> kernel.gram(theta, torch.tensor([[0.0, 0.0], [1.0, 0.0]]))
    tensor([[1.0000, 0.5240],
            [0.5240, 1.0000]])
    """

    groups: tuple[int, ...]
    columns: tuple[int, ...] | None = None
    profile: Profile = Matern52()
    warp: bool = False

    def __post_init__(self) -> None:
        if sorted(set(self.groups)) != list(range(max(self.groups, default=-1) + 1)) or not self.groups:
            raise ValueError(f"groups must use every index 0 .. G - 1 at least once, got {self.groups}")
        if self.columns is not None and len(self.columns) != len(self.groups):
            raise ValueError(
                f"columns and groups must match: {len(self.columns)} columns, {len(self.groups)} groups"
            )
        if not isinstance(self.profile, Profile):
            raise TypeError(
                f"profile must be a Profile, such as PROFILES[{list(PROFILES)[2]!r}], got {self.profile!r}"
            )

    @property
    def num_groups(self) -> int:
        """Number G of lengthscales."""
        return max(self.groups) + 1

    @property
    def num_hyper(self) -> int:  # type: ignore[override]
        return self.num_groups * (3 if self.warp else 1) + 1

    @cached_property
    def _one_to_one(self) -> bool:
        return self.groups == tuple(range(len(self.groups)))

    def _per_column(self, v: Tensor) -> Tensor:
        """Spread `(*b, G)` over the columns `(*b, D)`."""
        return v if self._one_to_one else v[..., self._group_index(v)]

    def _per_group(self, v: Tensor) -> Tensor:
        """Adjoint of `_per_column`: add up `(*b, D)` by group."""
        if self._one_to_one:
            return v
        if v.is_cuda:  # whose index_add_ adds in another order each time
            return self._per_group_by_product(v)
        return v.new_zeros(*v.shape[:-1], self.num_groups).index_add_(-1, self._group_index(v), v)

    def _per_group_by_product(self, v: Tensor) -> Tensor:
        G = self.num_groups
        one_hot = tuple(float(group == g) for group in self.groups for g in range(G))
        return v @ constant(one_hot, v.dtype, v.device).view(-1, G)

    def _group_index(self, v: Tensor) -> Tensor:
        return constant(self.groups, torch.int64, v.device)

    def _parts(self, theta: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """ln l, ln s2, ln a, ln b; the last two are empty without warping."""
        G = self.num_groups
        return theta[..., :G], theta[..., G], theta[..., G + 1 : 2 * G + 1], theta[..., 2 * G + 1 :]

    def _pick(self, F: Tensor) -> Tensor:
        return F if self.columns is None else F[..., constant(self.columns, torch.int64, F.device)]

    def scaled(self, theta: Tensor, F: Tensor) -> Tensor:
        """The used columns of F `(*b, n, D)` warped, centred and divided by their lengthscales."""
        log_l, _, log_a, log_b = self._parts(theta)
        x = self._pick(F)
        if self.warp:
            x = kumaraswamy(x, self._per_column(log_a)[..., None, :], self._per_column(log_b)[..., None, :])
        return (x - 0.5) * torch.exp(-self._per_column(log_l))[..., None, :]  # centred: less cancellation

    def cross(self, theta: Tensor, F1: Tensor, F2: Tensor) -> Tensor:
        s2 = self._parts(theta)[1].exp()[..., None, None]
        return s2 * self.profile.g(squared_distance(self.scaled(theta, F1), self.scaled(theta, F2)))

    def variance(self, theta: Tensor) -> Tensor:
        return self._parts(theta)[1].exp()

    def random_features(self, theta: Tensor, count: int, generator: torch.Generator) -> FeatureMap:
        omega = self.profile.frequencies(count, len(self.groups), generator)
        omega = put(omega, theta.device)
        amplitude = (self._parts(theta)[1].exp() / count).sqrt()[..., None, None]

        def phi(F: Tensor) -> Tensor:
            angle = self.scaled(theta, F) @ omega.mT
            return amplitude * torch.cat([angle.cos(), angle.sin()], -1)

        return phi

    def gram_and_pullback(self, theta: Tensor, F: Tensor, rows: int | None = None) -> tuple[Tensor, Pullback]:
        log_l, log_s2, log_a, log_b = self._parts(theta)
        inv_l = torch.exp(-self._per_column(log_l))[..., None, :]
        x = self._pick(F)
        if self.warp:
            warped = kumaraswamy_and_partials(
                x, self._per_column(log_a)[..., None, :], self._per_column(log_b)[..., None, :]
            )
            x = warped.w
        Z = (x - 0.5) * inv_l
        s2 = log_s2.exp()
        K, contract = _gram(Z, s2, self.profile) if rows is None else _gram_in_rows(Z, s2, self.profile, rows)

        def pullback(A: Tensor) -> Tensor:
            # r2_ij = |z_i - z_j|^2, so sum_ij (dL/dr2)_ij (z_ic - z_jc)^2 = 2 sum_i P_ic z_ic.
            P, d_log_s2 = contract(A)
            d_log_l = self._per_group(-4.0 * (P * Z).sum(-2))
            if not self.warp:
                return torch.cat([d_log_l, d_log_s2], -1)
            dx = 4.0 * P * inv_l
            d_log_a = self._per_group((dx * warped.dlog_a).sum(-2))
            d_log_b = self._per_group((dx * warped.dlog_b).sum(-2))
            return torch.cat([d_log_l, d_log_s2, d_log_a, d_log_b], -1)

        return K, pullback

    def towards(self, theta: Tensor, F2: Tensor) -> CrossCovariance:
        log_l, log_s2, log_a, log_b = self._parts(theta)
        inv_l = torch.exp(-self._per_column(log_l))[..., None, :]
        log_a, log_b = (
            (self._per_column(v)[..., None, :] for v in (log_a, log_b)) if self.warp else (log_a, log_b)
        )
        to_Z2 = _towards(self.scaled(theta, F2), log_s2.exp(), self.profile)

        def covariance(F1: Tensor) -> tuple[Tensor, Pullback]:
            x = self._pick(F1)
            if self.warp:
                warped = kumaraswamy_and_partials(x, log_a, log_b)
                x = warped.w
            K, contract = to_Z2((x - 0.5) * inv_l)

            def pullback(A: Tensor) -> Tensor:
                dx = contract(A).mul_(inv_l).mul_(2.0)
                if self.warp:
                    dx = dx * warped.dx
                if self.columns is None:
                    return dx
                columns = constant(self.columns, torch.int64, F1.device)
                return torch.zeros_like(F1).index_add_(-1, columns, dx)

            return K, pullback

        return covariance
