-- A job with two crashes behind it is a suspect, and runs in a child process where its worker has children. Such a worker's
-- death says nothing about the suspects that it held: something else brought it down. So they go back and not to held,
-- or a second poison would have jobs held that merely shared a process with it. That is no crash of theirs. But each such
-- loss may repeat a call that was paid for, so there is an end to it, too: it counts as a refusal, and the twentieth of a
-- generation holds the job. (sluice.lose_leases has the rule.)

ALTER TABLE sluice.incarnations ADD COLUMN isolates_suspects boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN sluice.incarnations.isolates_suspects IS
    'True: it runs jobs with two crashes behind them in a child process each, so that its own death is not their doing.';
