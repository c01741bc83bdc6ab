"""Where Alembic comes in: it runs this file, with the connection that it was handed, to take the steps in versions/.

Not to be imported. People who develop guardrail call it by `guardrail.memory.migration`, as every start does.
"""

from alembic import context

__all__: list[str] = []

context.configure(connection=context.config.attributes["connection"])
with context.begin_transaction():
    context.run_migrations()
