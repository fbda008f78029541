"""One SQLite file: its path, schema, connections and transactions.

`database.Database` is what the layers above use. Below it, `pool` hands out `connections`, `writers` lets those who
write commit together, `turns` lets processes take turns, `fork_gate` keeps forks apart, and `locks` and `transactions`
leave nothing held or open wherever an exception strikes. `tables`, `views`, `schema` and `legacy` are the contents of
the file, `values` and `identifiers` what can be stored in it, and `files` where it is.
"""
