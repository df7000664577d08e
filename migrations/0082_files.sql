-- Files as OpenAI's API has them: the input of batches, and what comes of them. Kept in chunks, so that nobody ever holds a
-- whole one in memory.

CREATE TABLE sluice.files (
    id uuid NOT NULL,
    tenant text NOT NULL,
    purpose text NOT NULL,
    filename text NOT NULL,
    bytes bigint,
    chunks integer,
    created_at timestamptz NOT NULL,
    expires_at timestamptz,
    CONSTRAINT files_pkey PRIMARY KEY (id),
    CONSTRAINT files_are_whole_or_not CHECK ((bytes IS NULL) = (chunks IS NULL))
);
CREATE INDEX files_tenant ON sluice.files (tenant, id);
CREATE INDEX files_expires_at ON sluice.files (expires_at);

COMMENT ON TABLE sluice.files IS 'Files that clients sent, and outputs of batches.';
COMMENT ON COLUMN sluice.files.id IS 'UUIDv7; clients see it as file- and its hex digits.';
COMMENT ON COLUMN sluice.files.tenant IS 'Who owns it.';
COMMENT ON COLUMN sluice.files.purpose IS 'What it is for: batch, batch_output, …';
COMMENT ON COLUMN sluice.files.filename IS 'Its name, as its sender gave it.';
COMMENT ON COLUMN sluice.files.bytes IS 'Its size; null: it is not complete, and nobody sees it.';
COMMENT ON COLUMN sluice.files.chunks IS 'How many chunks it has; null: it is not complete.';
COMMENT ON COLUMN sluice.files.created_at IS 'When it was begun, by the database clock.';
COMMENT ON COLUMN sluice.files.expires_at IS 'When it is deleted; null: not by itself.';

CREATE TABLE sluice.file_chunks (
    file_id uuid NOT NULL,
    number integer NOT NULL,
    body bytea NOT NULL,
    CONSTRAINT file_chunks_pkey PRIMARY KEY (file_id, number)
);

COMMENT ON TABLE sluice.file_chunks IS 'The bytes of files, in pieces of about a megabyte.';
COMMENT ON COLUMN sluice.file_chunks.file_id IS 'The file.';
COMMENT ON COLUMN sluice.file_chunks.number IS 'The place of the chunk, from 0.';
COMMENT ON COLUMN sluice.file_chunks.body IS 'Its bytes.';

DO $$
BEGIN
    ALTER TABLE sluice.file_chunks ALTER COLUMN body SET COMPRESSION lz4;
EXCEPTION WHEN feature_not_supported OR invalid_parameter_value THEN
    RAISE NOTICE 'this server has no lz4: files are compressed by pglz';
END $$;

REVOKE ALL ON sluice.files, sluice.file_chunks FROM PUBLIC;
