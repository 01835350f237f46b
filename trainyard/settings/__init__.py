"""Settings of a stack: one table (table), its reader for ``Pulumi.<stack>.yaml`` (files), its page and schema (page)."""
