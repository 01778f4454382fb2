"""The papers' tables, reproduced: ``python -m benchmarks.paper_tables liu9 --seeds 5 --data DIR --out DIR``.

How a run is put together, one file per step:

====================  ===================================================================================
`protocols`           which rows are drawn for a seed, and how they are preprocessed
`reviews`             those of IMDB
`networks`            networks that only a table needs
`recipes`             the network of a table and how its two stages are trained
`experiments`         a draw with its recipe; stage 1 is trained once and shared by the rows of the table
`methods`             the rows of a table: every weighting, and the controls without which no row means much
`controls`            those controls: scikit-learn's classifiers, nearest class means, resampling
`grids`               the settings tried for each method, "quick" or the paper's
`evaluation`          the metrics of a fitted classifier, at its own and at a tuned decision
`runner`              runs what is missing and appends each finished configuration to a CSV file
`selection`           which setting counts: the best on validation, or on test as the paper did
`report`, `ranks`     Markdown, CSV and figures, with the published figures (`published`) beside
====================  ===================================================================================
"""
