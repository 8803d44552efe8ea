"""Small models: one that comes with Tailrace, for boards with little memory and a first try, and one for examinations."""
