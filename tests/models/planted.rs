//! A product that was broken on purpose does not do what the model says, and the model notices.

use proptest::test_runner::{Config, RngSeed};

use crate::{
    action::Action,
    sequences::{Broken, run},
    world::World,
};

/// Replaces `old` by `new` in a function of the schema.
struct Planted {
    function: &'static str,
    old: &'static str,
    new: &'static str,
}

/// Breaks functions, and gives the actions by which the model noticed, shrunk.
fn noticed(planted: &[Planted]) -> Vec<Action> {
    let statements: Vec<String> = planted.iter().map(Planted::statement).collect();
    let mut found = None;
    World::with(&statements, || {
        let config = Config {
            cases: 400,
            failure_persistence: None,
            max_shrink_iters: 40,
            rng_seed: RngSeed::Fixed(5),
            ..Config::default()
        };
        found = run(&config).err();
    });
    let Broken { reason, actions } = found.expect("the model does not notice");
    println!("{reason}\n{actions:#?}");
    actions
}

impl Planted {
    fn statement(&self) -> String {
        let Self { function, old, new } = self;
        format!(
            "DO $plant$
             DECLARE v_old text; v_broken integer := 0;
             BEGIN
                 -- Of one name there may be one for older programs, too.
                 FOR v_old IN
                     SELECT pg_get_functiondef(p.oid) FROM pg_proc p
                     WHERE p.pronamespace = 'sluice'::regnamespace AND p.proname = '{function}'
                       AND position($old${old}$old$ IN p.prosrc) > 0
                 LOOP
                     EXECUTE replace(v_old, $old${old}$old$, $new${new}$new$);
                     v_broken := v_broken + 1;
                 END LOOP;
                 ASSERT v_broken > 0, 'there is nothing to break in {function}';
             END $plant$"
        )
    }
}

/// A bug takes few actions to show, whatever stood around them.
fn assert_short(actions: &[Action]) {
    assert!(actions.len() <= 25, "{} actions are not shrunk: {actions:#?}", actions.len());
}

#[test]
fn the_model_notices_a_settle_without_its_fence() {
    let by_job_alone = Planted {
        function: "settle",
        old: "r.job_id = p_job_ids[n] AND r.lease_id = p_lease_ids[n]",
        new: "r.job_id = p_job_ids[n]",
    };
    let once_more = Planted {
        function: "settle",
        old: "r.ctid = v_places[n] AND r.lease_id = p_lease_ids[n]",
        new: "r.ctid = v_places[n]",
    };
    let actions = noticed(&[by_job_alone, once_more]);
    assert!(actions.iter().any(|action| matches!(action, Action::Settle { .. })));
    assert_short(&actions);
}

#[test]
fn the_model_notices_a_lost_lease_that_is_no_crash() {
    let crashes = "g.crashes + (NOT g.was_isolated)::integer";
    let actions = noticed(&[Planted { function: "lose_leases", old: crashes, new: "g.crashes" }]);
    assert_short(&actions);
}

#[test]
fn the_model_notices_a_pause_that_is_passed_over() {
    let actions = noticed(&[Planted { function: "lease", old: "AND q.paused_at IS NULL", new: "" }]);
    assert!(actions.iter().any(|action| matches!(action, Action::Pause { .. })));
    assert_short(&actions);
}
