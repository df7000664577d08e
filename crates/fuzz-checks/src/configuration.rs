//! `sluice.yaml`.

use sluice_config::{ConfigErrors, Configuration, difference};

/// The bytes are the text.
pub(crate) fn check(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match Configuration::parse(text) {
        Ok(configuration) => check_accepted(&configuration),
        Err(errors) => check_errors(&errors, text),
    }
}

fn check_accepted(configuration: &Configuration) {
    assert!(!configuration.upstreams.is_empty());
    for route in &configuration.routes {
        let (_, model) = configuration.route(route.model.as_str()).expect("a route leads somewhere");
        assert!(!model.is_empty());
    }
    for queue in &configuration.queues {
        let retry = configuration.retry_policy(queue.name.as_str());
        assert!(retry.max_attempts >= 1 && retry.min_delay <= retry.max_delay, "{retry:?}");
    }
    let yaml = configuration.to_yaml();
    let read_back = match Configuration::parse(&yaml) {
        Ok(read_back) => read_back,
        Err(errors) => panic!("what was written can't be read: {errors}\n{yaml}"),
    };
    assert_eq!(&read_back, configuration, "what was written reads otherwise:\n{yaml}");
    assert!(difference(configuration, &read_back).is_empty());
}

fn check_errors(errors: &ConfigErrors, text: &str) {
    assert!(!errors.0.is_empty());
    for problem in &errors.0 {
        assert!(!problem.message.is_empty());
        let Some((line, column)) = problem.position else { continue };
        // Line breaks of YAML are more than those of `lines`; the end of the text is on a line of its own.
        let most_lines = text.split(['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}']).count() as u64 + 1;
        assert!((1..=most_lines).contains(&line), "line {line} of {most_lines}");
        assert!((1..=text.len() as u64 + 2).contains(&column), "column {column}");
    }
}
