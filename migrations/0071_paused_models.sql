-- A model of an upstream can be paused by itself: a key may call some models and not others.

ALTER TABLE sluice.pauses DROP CONSTRAINT pauses_kind_is_known,
    ADD CONSTRAINT pauses_kind_is_known CHECK (kind IN ('upstream', 'account', 'model'));
COMMENT ON TABLE sluice.pauses IS 'Upstreams, accounts and models of upstreams that are not called until somebody resumes them.';
COMMENT ON COLUMN sluice.pauses.kind IS 'upstream: one base URL with its credential. account: what the provider counts limits and money against. model: one model of an upstream.';
COMMENT ON COLUMN sluice.pauses.name IS 'Its name in the configuration; of a model, that of the upstream, a space, and the model''s name there.';
