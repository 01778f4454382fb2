r"""
What a constraint step does
===========================

The step that sets ``"ours"`` apart (Liu et al. 2022, eq. 7 to 9), on a model of two parameters, so that all of it can
be seen. Written out in NumPy; the package does the same without ever forming :math:`F`.

The columns of :math:`F` are the gradients :math:`\nabla f_i(\theta)` of the rows of a batch. Training on weights
:math:`w` can move :math:`\theta` only along combinations of them. With :math:`h` in place of the inverse of the
Hessian's diagonal, a step moves weights and parameters together so that the validation loss falls:

.. math::

   u = F^\top (h \circ \nabla L_{val}), \qquad w' = w + \eta u, \qquad \theta' = \theta - \eta\, h \circ F u .
"""

import matplotlib.pyplot as plt
import numpy as np

rng = np.random.default_rng(0)
DAMPING, POLYAK = 0.1, 0.15

# %%
# A logistic model without intercept
# ----------------------------------
#
# The batch has six rows, five of the common class; the eight validation rows are balanced.

signs = np.array([-1.0, -1, -1, -1, -1, 1])
batch = np.where(signs[:, None] < 0, [-1.3, 0.5], [0.3, 1.2]) + rng.normal(scale=0.6, size=(6, 2))
validation_signs = np.repeat([-1.0, 1.0], 4)
validation = validation_signs[:, None] * [0.5, 1.0] + rng.normal(scale=0.9, size=(8, 2))


def losses(theta, x, sign):
    """Return log(1 + exp(−s xᵀθ)) of every row, for one θ or many."""
    return np.logaddexp(0, -sign * (theta @ x.T))


def gradients(theta, x, sign):
    """Return F: one column per row, shape (2, rows)."""
    return (-sign / (1 + np.exp(sign * (x @ theta))) * x.T).reshape(2, -1)


def constraint_step(theta, w):
    """Return u, θ' − θ and η."""
    p = 1 / (1 + np.exp(-(batch @ theta)))
    h = 1 / ((batch**2).T @ (w * p * (1 - p)) + DAMPING)  # diagonal of the Hessian of Σ w_i f_i
    F = gradients(theta, batch, signs)
    slope = gradients(theta, validation, validation_signs).mean(axis=1)
    u = F.T @ (h * slope)
    eta = POLYAK * losses(theta, validation, validation_signs).mean() / (u @ u)
    return u, -eta * h * (F @ u), eta


# %%
# Eight steps from the same weights
# ---------------------------------

theta = np.array([1.2, -1.0])
w = np.full(6, 1 / 6)
path, first = [theta], constraint_step(theta, w)
for _ in range(8):
    u, move, eta = constraint_step(theta, w)
    theta = theta + move
    path.append(theta)
path = np.array(path)
values = losses(path, validation, validation_signs).mean(axis=1)
print("validation loss:", " → ".join(f"{value:.3f}" for value in values[:5]), "…", f"{values[-1]:.3f}")

# %%
# Left: the level lines of :math:`L_{val}`; from the start, the descent directions :math:`-\nabla f_i` of the rows of
# the batch, and the path that is made of them. Right: rows whose gradients agree with the validation loss gain weight,
# the others lose it.

fig, (left, right) = plt.subplots(1, 2, figsize=(9, 4.2), layout="constrained", width_ratios=[3, 2])
grid = np.stack(np.meshgrid(np.linspace(-0.2, 2.6, 120), np.linspace(-1.7, 1.1, 120)), axis=-1)
surface = losses(grid.reshape(-1, 2), validation, validation_signs).mean(axis=1).reshape(120, 120)
lines = left.contour(grid[..., 0], grid[..., 1], surface, levels=14, cmap="Greys_r", linewidths=0.8)
left.clabel(lines, fontsize=7)
for i, (direction, sign) in enumerate(zip(-gradients(path[0], batch, signs).T, signs, strict=True)):
    colour = "#D55E00" if sign > 0 else "#0072B2"
    label = {0: r"$-\nabla f_i$, common row", 5: r"$-\nabla f_i$, rare row"}.get(i)
    left.quiver(
        *path[0], *direction, color=colour, angles="xy", scale_units="xy", scale=1, width=0.008, label=label
    )
left.plot(*path.T, "o-", color="0.3", linewidth=1, markersize=4, zorder=1, label="constraint steps")
left.annotate(r"$\theta$", path[0], xytext=(-14, -4), textcoords="offset points")
left.set(
    xlabel=r"$\theta_1$", ylabel=r"$\theta_2$", title=r"$\theta$ over the validation loss", aspect="equal"
)
left.legend(loc="upper right", fontsize="small")
colours = ["#D55E00" if sign > 0 else "#0072B2" for sign in signs]
right.bar(range(1, 7), first[2] * first[0], color=colours)
right.axhline(0, color="black", linewidth=0.8)
right.set(xlabel="row of the batch", ylabel=r"$w' - w = \eta u$", title="what the first step adds")
plt.show()
