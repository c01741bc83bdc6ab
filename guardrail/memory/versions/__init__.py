"""Steps from one format of the tables to the next, run by Alembic; a step is never changed once it was released."""
