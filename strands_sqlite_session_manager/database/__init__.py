"""One SQLite file: its path, schema, connections and transactions.

The layers above use `database.Database`. Below it, `pool` hands out `connections`, `writers` lets threads commit
together, `turns` lets processes take turns, `fork_gate` closes everything around a fork, and `locks` and `transactions`
leave nothing held or open wherever an exception strikes. `tables`, `views`, `schema` and `legacy` define the file's
contents, `values` and `identifiers` what can be stored in it, and `files` where it is.
"""
