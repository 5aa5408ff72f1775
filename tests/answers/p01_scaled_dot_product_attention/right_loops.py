"""Leading dimensions flattened, then a loop over sequences and queries, allowed keys alone."""


def scaled_dot_product_attention(q, k, v, mask=None):
    lead, Tq, Tk = q.shape[:-2], q.shape[-2], k.shape[-2]
    if mask is None:
        mask = torch.ones(Tq, Tk, dtype=torch.bool)
    mask = mask.expand(*lead, Tq, Tk).reshape(-1, Tq, Tk)
    rows = []
    for one_q, one_k, one_v, one_mask in zip(
        q.reshape(-1, Tq, q.shape[-1]),
        k.reshape(-1, Tk, k.shape[-1]),
        v.reshape(-1, Tk, v.shape[-1]),
        mask,
    ):
        for query, allowed in zip(one_q, one_mask):
            scores = one_k[allowed] @ query / math.sqrt(len(query))
            rows.append(scores.softmax(0) @ one_v[allowed])
    return torch.stack(rows).reshape(*lead, Tq, v.shape[-1])
