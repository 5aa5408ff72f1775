"""An additive mask and the scale in one fused product, a softmax written out with its maximum."""


def scaled_dot_product_attention(q, k, v, mask=None):
    *lead, Tq, D = q.shape
    Tk = k.shape[-2]
    dtype = q.dtype
    q, k, v = (x.reshape(-1, *x.shape[-2:]).double() for x in (q, k, v))
    bias = torch.zeros(*lead, Tq, Tk, dtype=torch.float64)
    if mask is not None:
        bias = bias.masked_fill(mask.logical_not(), -1e300)
    bias = bias.reshape(-1, Tq, Tk)
    scores = torch.baddbmm(bias, q, k.mT, alpha=D**-0.5)
    weights = torch.exp(scores - scores.amax(-1, keepdim=True))
    weights = weights / weights.sum(-1, keepdim=True)
    weights = weights * (bias == 0)
    return torch.bmm(weights, v).reshape(*lead, Tq, v.shape[-1]).to(dtype)
