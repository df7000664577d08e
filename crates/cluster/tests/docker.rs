//! A private Postgres where Docker is all there is.

use std::{fs, os::unix::fs::PermissionsExt, process::Command};

use sluice_cluster::{Closed, ClusterOptions, PrivatePostgres, ServerSource};

/// An engine and an image that is there already: this test fetches none.
fn docker_is_here() -> bool {
    let listed = Command::new("docker").args(["image", "ls", "--format", "{{.Tag}}", "postgres"]).output();
    let here = listed.is_ok_and(|output| {
        String::from_utf8_lossy(&output.stdout)
            .lines()
            .any(|tag| tag.parse::<u32>().is_ok_and(|major| major >= 15))
    });
    if !here {
        eprintln!("skipped: no Docker engine with an image of Postgres answers");
    }
    here
}

#[tokio::test]
async fn a_container_serves_until_its_last_user_closes_it() {
    if !docker_is_here() {
        return;
    }
    let open = fs::Permissions::from_mode(0o755);
    let folder = tempfile::Builder::new().permissions(open).tempdir().unwrap();
    let mut options = ClusterOptions::new(folder.path());
    options.sources = vec![ServerSource::Docker];
    let first = PrivatePostgres::open(options.clone()).await.unwrap();
    let second = PrivatePostgres::open(options.clone()).await.unwrap();
    assert_eq!(first.url(), second.url());
    assert!(first.url().contains("@127.0.0.1:"), "only this machine may reach it");
    assert_eq!(first.close().await.unwrap(), Closed::StillUsed);
    assert_eq!(second.close().await.unwrap(), Closed::Stopped);
    // The data outlive the container.
    let again = PrivatePostgres::open(options).await.unwrap();
    assert_eq!(again.close().await.unwrap(), Closed::Stopped);
}
