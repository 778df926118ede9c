"""The kernels of `kernels.fused`, written in Triton. Only that module imports this one: it loads triton.

Points come row by row, `Z1 (b, m, D)` and `Z2 (b, n, D)`, everything contiguous and float64. Squared
distances are sums of squared differences, not the expanded square of the torch version: on the fly they cost
no memory, and at coincident points they are exactly 0.
"""

import triton
import triton.language as tl


@triton.jit
def _squared_distance(Z1, Z2, rows, columns, m, n, D):
    """`r2 (BM, BN)` of the points `rows` of Z1 and `columns` of Z2, 0 past their ends."""
    r2 = tl.zeros((rows.shape[0], columns.shape[0]), tl.float64)
    for c in range(D):
        z1 = tl.load(Z1 + rows * D + c, mask=rows < m, other=0.0)
        z2 = tl.load(Z2 + columns * D + c, mask=columns < n, other=0.0)
        difference = z1[:, None] - z2[None, :]
        r2 += difference * difference
    return r2


@triton.jit
def _g_and_slope(r2, PROFILE: tl.constexpr):
    """`(g(r2), g'(r2))` as in `kernels.profiles`, with the same floor of 1e-18."""
    if PROFILE == "matern12":
        r = tl.sqrt(tl.maximum(r2, 1e-18))
        g = tl.exp(-r)
        slope = -0.5 * g / r
    elif PROFILE == "matern32":
        s = tl.sqrt(tl.maximum(3.0 * r2, 1e-18))
        e = tl.exp(-s)
        g = (1.0 + s) * e
        slope = -1.5 * e
    elif PROFILE == "matern52":
        s2 = tl.maximum(5.0 * r2, 1e-18)
        s = tl.sqrt(s2)
        e = tl.exp(-s)
        w = (1.0 + s) * e
        g = w + e * s2 * (1.0 / 3.0)
        slope = w * (-5.0 / 6.0)
    elif PROFILE == "rational_quadratic":
        u = 1.0 + 2.0 * r2
        g = 1.0 / tl.sqrt(tl.sqrt(u))
        slope = -0.5 * g / u
    else:
        tl.static_assert(PROFILE == "rbf")
        g = tl.exp(-0.5 * r2)
        slope = -0.5 * g
    return g, slope


# Sizes are not specialised: a history grows by one, and would compile anew whenever 16 divides its length.
@triton.jit(do_not_specialize=["m", "n", "D"])
def covariance(Z1, Z2, scale, K, m, n, D, PROFILE: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr):
    """`K_ij = s2 g(|z_i - z'_j|^2)`, one tile a program; scale `(b,)` holds s2."""
    across, down = tl.cdiv(n, BN), tl.cdiv(m, BM)
    tile = tl.program_id(0) % (across * down)
    batch = (tl.program_id(0) // (across * down)).to(tl.int64)
    rows = (tile // across).to(tl.int64) * BM + tl.arange(0, BM)
    columns = (tile % across).to(tl.int64) * BN + tl.arange(0, BN)
    r2 = _squared_distance(Z1 + batch * m * D, Z2 + batch * n * D, rows, columns, m, n, D)
    g, _ = _g_and_slope(r2, PROFILE)
    place = K + batch * m * n + rows[:, None] * n + columns[None, :]
    tl.store(place, g * tl.load(scale + batch), mask=(rows < m)[:, None] & (columns < n)[None, :])


@triton.jit(do_not_specialize=["m", "n", "D"])
def contraction(
    A, Z1, Z2, scale, out, m, n, D,
    PROFILE: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, DP: tl.constexpr,
):  # fmt: skip
    """A part of `P_i = sum_j A_ij s2 g'(r2_ij) (z_i - z'_j)` and of `t_i = sum_j A_ij K_ij`.

    A program takes BM rows and one in `parts` of the tiles of BN columns, and writes `(BM, D + 1)` of out
    `(parts, b, m, D + 1)`, t last. Parts are added up afterwards: atomic additions would come in any order,
    and the same history must give the same bits. DP is D rounded up to a power of two.
    """
    down = tl.cdiv(m, BM)
    batch = (tl.program_id(0) // down).to(tl.int64)
    part, parts = tl.program_id(1), tl.num_programs(1)
    rows = (tl.program_id(0) % down).to(tl.int64) * BM + tl.arange(0, BM)
    c = tl.arange(0, DP)
    Z1 += batch * m * D
    Z2 += batch * n * D
    A += batch * m * n
    weight = tl.zeros((BM,), tl.float64)
    total = tl.zeros((BM,), tl.float64)
    weighted = tl.zeros((BM, DP), tl.float64)
    for start in range(part * BN, n, parts * BN):
        columns = start + tl.arange(0, BN)
        inside = (rows < m)[:, None] & (columns < n)[None, :]
        a = tl.load(A + rows[:, None] * n + columns[None, :], mask=inside, other=0.0)
        r2 = _squared_distance(Z1, Z2, rows, columns, m, n, D)
        g, slope = _g_and_slope(r2, PROFILE)
        total += tl.sum(a * g, 1)
        # Coincident points pull nowhere. The slope of Matern 1/2 is 5e8 there: its terms would cancel, but
        # not to the last bit.
        a = tl.where(r2 > 0.0, a * slope, 0.0)
        weight += tl.sum(a, 1)
        known = (columns < n)[:, None] & (c < D)[None, :]
        z2 = tl.load(Z2 + columns[:, None] * D + c[None, :], mask=known, other=0.0)
        weighted = tl.dot(a, z2, weighted, out_dtype=tl.float64)
    known = (rows < m)[:, None] & (c < D)[None, :]
    z1 = tl.load(Z1 + rows[:, None] * D + c[None, :], mask=known, other=0.0)
    s2 = tl.load(scale + batch)
    b = tl.num_programs(0) // down
    place = out + ((part * b + batch) * m + rows) * (D + 1)
    tl.store(place[:, None] + c[None, :], s2 * (weight[:, None] * z1 - weighted), mask=known)
    tl.store(place + D, s2 * total, mask=rows < m)
