//! Outcomes on this host that no database has taken yet.

use std::path::Path;

use sluice_worker::{SpoolState, inspect_spools};
use uuid::Uuid;

use super::report::{Report, Verdict};
use crate::roles;

/// Checks the spools of a data directory. `here`: which database the other checks are about, where that is known.
pub fn check(data_dir: &Path, here: Option<Uuid>, report: &mut Report) {
    let folder = roles::spool_folder(data_dir);
    let (spools, set_aside) = match inspect_spools(&folder) {
        Ok(found) => found,
        Err(error) => {
            let text =
                format!("{} can't be read ({error}); run this as the user of the workers", folder.display());
            report.add(Verdict::Warn, "spool", &text);
            return;
        }
    };
    for spool in spools.iter().filter(|spool| spool.outcomes > 0 || spool.unreadable > 0) {
        let (verdict, text) = judged(spool, here);
        report.add(verdict, "spool", &text);
    }
    for path in &set_aside {
        let text = format!("a damaged outcome was set aside; look at {}, then remove it", path.display());
        report.add(Verdict::Warn, "spool", &text);
    }
    if set_aside.is_empty() && spools.iter().all(|spool| spool.outcomes == 0 && spool.unreadable == 0) {
        report.add(Verdict::Ok, "spool", "no outcomes wait on this host for a database");
    }
}

fn judged(spool: &SpoolState, here: Option<Uuid>) -> (Verdict, String) {
    let SpoolState { outcomes, unreadable, bytes, path, .. } = spool;
    let what = if *unreadable > 0 {
        format!("{outcomes} outcomes, and {unreadable} records that this program can't read,")
    } else {
        format!("{outcomes} outcomes ({bytes} bytes)")
    };
    let path = path.display();
    if spool.has_owner {
        return (
            Verdict::Ok,
            format!("{what} wait for the database; their worker lives and writes them: {path}"),
        );
    }
    let remedy = if here == Some(spool.database) || here.is_none() {
        "start a worker with this data directory, and it writes them".to_owned()
    } else {
        format!(
            "they are for another database ({}): start a worker with that one's DATABASE_URL",
            spool.database
        )
    };
    (Verdict::Warn, format!("{what} of a worker that is gone wait in {path}; {remedy}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(has_owner: bool, here: Option<Uuid>) -> (Verdict, String) {
        let spool = SpoolState {
            path: "data/spool/db/worker".into(),
            database: Uuid::from_u128(1),
            has_owner,
            outcomes: 3,
            bytes: 900,
            unreadable: 0,
        };
        judged(&spool, here)
    }

    #[test]
    fn what_a_dead_worker_left_is_worth_a_word_and_says_what_to_do() {
        let (verdict, text) = said(false, Some(Uuid::from_u128(1)));
        assert_eq!(verdict, Verdict::Warn);
        assert!(text.starts_with("3 outcomes (900 bytes) of a worker that is gone"), "{text}");
        assert!(text.contains("data/spool/db/worker; start a worker"), "{text}");
        let (_, text) = said(false, Some(Uuid::from_u128(2)));
        assert!(text.contains("another database (00000000-0000-0000-0000-000000000001)"), "{text}");
        assert_eq!(said(true, None).0, Verdict::Ok);
    }

    #[test]
    fn a_data_directory_without_a_spool_is_well() {
        let folder = tempfile::tempdir().unwrap();
        let mut report = Report::default();
        check(folder.path(), None, &mut report);
        assert_eq!((report.worst(), report.json().len()), (Verdict::Ok, 1));
    }
}
