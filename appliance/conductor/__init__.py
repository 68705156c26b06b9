"""Turn-taking: who has the floor, and the ledger of where the time went."""
