"""Pure tensor functions the methods are made of; knows no estimator and no skorch.

Notation used throughout (Liu et al. 2022): f_i(θ) is the loss of row i of a mini-batch of B rows,
F = (∇f_1 … ∇f_B) the matrix of their gradients, w the weights of the rows, L_val the loss on the validation
rows. A vector shaped like θ is a list of tensors shaped like the parameters; F itself is never built.

Leading axes are members: M is () for one network and (K,) for K trained at once. What belongs to a parameter has
shape (*M, ...), what belongs to the rows of a batch (*M, B), what belongs to a whole batch (*M, 1). Only operations
that broadcast over leading axes are used, so that one line of arithmetic serves one network and K.
"""
