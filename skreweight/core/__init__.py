"""Pure tensor functions the methods are made of; knows no estimator and no skorch.

Notation used throughout (Liu et al. 2022): f_i(θ) is the loss of row i of a mini-batch of B rows,
F = (∇f_1 … ∇f_B) the K×B matrix of their gradients, w the weights of the rows, L_val the loss on the
validation rows. A vector of R^K is a list of tensors shaped like the parameters; F itself is never built.
"""
