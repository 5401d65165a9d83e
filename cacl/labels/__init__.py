"""Label tables: frozen classifiers and taggers, clusters, fusion, and how good a table is."""
