-- A signed request counts once: its nonce is remembered for as long as its timestamp would be good.

CREATE TABLE sluice.nonces (
    signer text NOT NULL,
    nonce text NOT NULL,
    forget_at timestamptz NOT NULL,
    CONSTRAINT nonces_pkey PRIMARY KEY (signer, nonce)
);
CREATE INDEX nonces_forget_at ON sluice.nonces (forget_at);
ALTER TABLE sluice.nonces ENABLE ROW LEVEL SECURITY;
COMMENT ON TABLE sluice.nonces IS 'Nonces of signed requests that were let in.';
COMMENT ON COLUMN sluice.nonces.signer IS 'Who signed.';
COMMENT ON COLUMN sluice.nonces.nonce IS 'What may not come again from the same signer.';
COMMENT ON COLUMN sluice.nonces.forget_at IS 'From when on the request''s timestamp keeps it out.';
