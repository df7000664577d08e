use proptest::prelude::*;

use super::{FULL, errors};
use crate::Configuration;

proptest! {
    #[test]
    fn no_text_makes_parsing_panic(text in "\\PC{0,300}") {
        let _ = Configuration::parse(&text);
    }

    #[test]
    fn no_yaml_like_text_makes_parsing_panic(text in "[a-z0-9 :{}\\[\\],&*!|>'\"#%@`\n$.-]{0,300}") {
        let _ = Configuration::parse(&text);
    }

    #[test]
    fn no_small_damage_makes_parsing_panic(at in 0..FULL.len(), instead in "[ -~\n]{0,3}", length in 0_usize..6) {
        let end = (at + length).min(FULL.len());
        let _ = Configuration::parse(&format!("{}{instead}{}", &FULL[..at], &FULL[end..]));
    }
}

#[test]
fn bombs_are_refused() {
    let deep = format!("upstreams: {}{}", "[".repeat(500), "]".repeat(500));
    assert!(errors(&deep).contains("not valid YAML"), "{}", errors(&deep));
    let level = |level: u32| {
        let before = if level == 0 { "x".to_owned() } else { format!("*a{}", level - 1) };
        format!("a{level}: &a{level} [{}]", [before.as_str(); 10].join(", "))
    };
    let laughs = (0..10).map(level).collect::<Vec<_>>().join("\n");
    assert!(errors(&laughs).contains("not valid YAML"), "{}", errors(&laughs));
}
