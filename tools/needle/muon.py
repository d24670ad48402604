"""The optimizer of the layers' matrices."""

import torch


class Muon:
    """Muon (https://kellerjordan.github.io/posts/muon): momentum, orthogonalised per matrix. Matrices of one shape run as one batch."""

    def __init__(self, params, momentum=0.95):
        self.momentum, self.groups = momentum, []
        for shape in sorted({tuple(p.shape) for p in params}):
            group = [p for p in params if tuple(p.shape) == shape]
            self.groups.append((group, torch.zeros(len(group), *shape, device=group[0].device)))

    @torch.no_grad()
    def step(self, lr, decay):
        for params, m in self.groups:
            g = torch.stack([p.grad for p in params])
            m.lerp_(g, 1 - self.momentum)
            update = orthogonal(g.lerp(m, self.momentum)) * max(1, m.shape[1] / m.shape[2]) ** 0.5
            torch._foreach_mul_(params, 1 - lr * decay)
            torch._foreach_add_(params, list(update.float().unbind()), alpha=-lr)


def orthogonal(g, steps=5):
    """g (matrices, rows, cols) -> about U V^T of each, by a quintic Newton-Schulz iteration"""
    x = g.bfloat16()
    tall = x.shape[1] > x.shape[2]
    x = x.mT if tall else x
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(steps):
        s = x @ x.mT
        x = 3.4445 * x + (-4.7750 * s + 2.0315 * s @ s) @ x
    return x.mT if tall else x
