-- Upstreams whose breaker is open: they fail, and are called by one trial at a time until one succeeds. Shared by all
-- workers, told by the beat. No row: the breaker is closed, which costs nobody anything.

CREATE TABLE sluice.breakers (
    upstream text NOT NULL,
    opened_at timestamptz NOT NULL,
    reason text NOT NULL,
    failed_trials integer NOT NULL DEFAULT 0,
    trial_at timestamptz NOT NULL,
    probes_count_from timestamptz NOT NULL,
    next_probe_at timestamptz NOT NULL,
    trial_by uuid,
    trial_until timestamptz,
    CONSTRAINT breakers_pkey PRIMARY KEY (upstream),
    CONSTRAINT breakers_trial_has_both CHECK ((trial_by IS NULL) = (trial_until IS NULL))
);

COMMENT ON TABLE sluice.breakers IS 'Upstreams whose breaker is open: they fail, and one call at a time tries whether they still do.';
COMMENT ON COLUMN sluice.breakers.upstream IS 'Its name in the configuration.';
COMMENT ON COLUMN sluice.breakers.opened_at IS 'Since when, by the database clock.';
COMMENT ON COLUMN sluice.breakers.reason IS 'The class of the last failure, or silent: calls waited and a probe got no answer.';
COMMENT ON COLUMN sluice.breakers.failed_trials IS 'Trials that have failed since.';
COMMENT ON COLUMN sluice.breakers.trial_at IS 'From when on a trial may be made without a probe.';
COMMENT ON COLUMN sluice.breakers.probes_count_from IS 'From when on a good probe brings a trial: after a failed trial, probes are distrusted for a while.';
COMMENT ON COLUMN sluice.breakers.next_probe_at IS 'When the next free probe is due; whoever claims it moves this.';
COMMENT ON COLUMN sluice.breakers.trial_by IS 'The incarnation that holds the trial; null: nobody does.';
COMMENT ON COLUMN sluice.breakers.trial_until IS 'When another may take the trial over.';
