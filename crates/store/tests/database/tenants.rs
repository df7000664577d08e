//! Roles of the database act for their tenants, and tables that somebody was granted show no other tenant's rows.

use sluice_testkit::job;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::fixture::Fixture;

/// A role of this test's own.
struct Role<'a> {
    f: &'a Fixture,
    name: String,
}

impl<'a> Role<'a> {
    async fn new(f: &'a Fixture, what: &str) -> Self {
        let name = format!("{what}_{}", f.database.name());
        run(f, &format!("CREATE ROLE \"{name}\" LOGIN")).await;
        Self { f, name }
    }

    async fn assign(&self, tenant: &str) {
        run(self.f, &format!("SELECT sluice.assign_role('{}', '{tenant}')", self.name)).await;
    }

    /// A session that began as this role.
    async fn session(&self) -> PgConnection {
        let mut session = PgConnection::connect_with(&self.f.database.connect_options()).await.unwrap();
        let statement = format!("SET SESSION AUTHORIZATION \"{}\"", self.name);
        sqlx::query(AssertSqlSafe(statement)).execute(&mut session).await.unwrap();
        session
    }

    async fn drop(self) {
        run(self.f, &format!("DROP OWNED BY \"{}\"", self.name)).await;
        run(self.f, &format!("DROP ROLE \"{}\"", self.name)).await;
    }
}

async fn run(f: &Fixture, statement: &str) {
    sqlx::query(AssertSqlSafe(statement.to_owned())).execute(f.database.pool()).await.expect(statement);
}

async fn submit(session: &mut PgConnection, key: &str) -> uuid::Uuid {
    let statement = "SELECT sluice.submit('{\"model\":\"m\"}', idempotency_key => $1)";
    sqlx::query_scalar(statement).bind(key).fetch_one(session).await.unwrap()
}

async fn tenant_of(f: &Fixture, id: uuid::Uuid) -> String {
    let statement = "SELECT tenant FROM sluice.jobs WHERE id = $1";
    sqlx::query_scalar(statement).bind(id).fetch_one(f.database.pool()).await.unwrap()
}

#[tokio::test]
async fn a_role_submits_and_reaches_jobs_of_its_tenant_only() {
    let f = Fixture::new().await;
    let (red, blue) = (Role::new(&f, "red").await, Role::new(&f, "blue").await);
    red.assign("red").await;
    blue.assign("blue").await;
    let (mut as_red, mut as_blue) = (red.session().await, blue.session().await);
    let id = submit(&mut as_red, "k").await;
    assert_eq!(tenant_of(&f, id).await, "red");
    // The same key is another tenant's own.
    let other = submit(&mut as_blue, "k").await;
    assert_eq!((other == id, tenant_of(&f, other).await.as_str()), (false, "blue"));
    let many: Vec<uuid::Uuid> =
        sqlx::query_scalar("SELECT sluice.submit_many('[{\"body\":{\"model\":\"m\"}}]')")
            .fetch_all(&mut as_blue)
            .await
            .unwrap();
    assert_eq!(tenant_of(&f, many[0]).await, "blue");
    let seen = "SELECT count(*) FROM sluice.job($1)";
    for (session, count) in [(&mut as_red, 1_i64), (&mut as_blue, 0)] {
        let found: i64 = sqlx::query_scalar(seen).bind(id).fetch_one(session).await.unwrap();
        assert_eq!(found, count);
    }
    for statement in ["SELECT sluice.cancel($1)", "SELECT sluice.replay($1)"] {
        let error = sqlx::query(statement).bind(id).execute(&mut as_blue).await.unwrap_err();
        assert_eq!(error.as_database_error().unwrap().code().as_deref(), Some("P0002"), "{statement}");
    }
    sqlx::query("SELECT sluice.cancel($1)").bind(id).execute(&mut as_red).await.unwrap();
    let replayed: i64 =
        sqlx::query_scalar("SELECT sluice.replay_failed('{}')").fetch_one(&mut as_blue).await.unwrap();
    assert_eq!(replayed, 0);
    red.drop().await;
    blue.drop().await;
}

#[tokio::test]
async fn becoming_another_role_does_not_change_the_tenant_and_unnamed_roles_are_default() {
    let f = Fixture::new().await;
    let (plain, red) = (Role::new(&f, "plain").await, Role::new(&f, "red").await);
    run(&f, &format!("GRANT sluice_submitter, \"{}\" TO \"{}\"", red.name, plain.name)).await;
    red.assign("red").await;
    let mut session = plain.session().await;
    let id = submit(&mut session, "a").await;
    sqlx::query(AssertSqlSafe(format!("SET ROLE \"{}\"", red.name))).execute(&mut session).await.unwrap();
    let as_red = submit(&mut session, "b").await;
    assert_eq!((tenant_of(&f, id).await, tenant_of(&f, as_red).await), ("default".into(), "default".into()));
    // Only the owner assigns roles.
    let statement = format!("SELECT sluice.assign_role('{}', 'default')", plain.name);
    let error = sqlx::query(AssertSqlSafe(statement)).execute(&mut session).await.unwrap_err();
    assert_eq!(error.as_database_error().unwrap().code().as_deref(), Some("42501"), "{error}");
    plain.drop().await;
    red.drop().await;
}

#[tokio::test]
async fn a_granted_table_shows_the_rows_of_its_readers_tenant_and_none_that_have_no_tenant() {
    let f = Fixture::new().await;
    f.submit(&job().tenant("red").build()).await;
    f.submit(&job().tenant("blue").build()).await;
    let reader = Role::new(&f, "reader").await;
    reader.assign("red").await;
    run(&f, &format!("GRANT SELECT ON ALL TABLES IN SCHEMA sluice TO \"{}\"", reader.name)).await;
    let mut session = reader.session().await;
    let tenants: Vec<String> =
        sqlx::query_scalar("SELECT tenant FROM sluice.jobs").fetch_all(&mut session).await.unwrap();
    assert_eq!(tenants, ["red"]);
    let tables: Vec<String> = sqlx::query_scalar(
        "SELECT 'sluice.' || quote_ident(c.relname) FROM pg_class c
         WHERE c.relnamespace = 'sluice'::regnamespace AND c.relkind IN ('r', 'p', 'v') AND c.oid <> 'sluice.jobs'::regclass
         ORDER BY 1",
    )
    .fetch_all(f.database.pool())
    .await
    .unwrap();
    assert!(tables.iter().any(|table| table.starts_with("sluice.jobs_2")), "{tables:?}");
    for table in tables {
        let statement = format!("SELECT count(*) FROM {table}");
        let rows: i64 = sqlx::query_scalar(AssertSqlSafe(statement)).fetch_one(&mut session).await.unwrap();
        assert_eq!(rows, 0, "{table}");
    }
    reader.drop().await;
}
