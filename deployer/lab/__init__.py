"""The rehearsal lab: containers that look like the hosts of an inventory, with emulated accelerators.

What vendors' tools and packages do here is written from the vendors' documents and recorded outputs alone. This package
shares no code and no constants with the catalog, the parsers or the roles: it is what they are tried against. The only
things of `deployer` that it uses are `errors` and `paths`.
"""
