//! What an application does that has a pool of sqlx: statements with and without values, transactions, errors, several
//! connections at once. Tells what it got, so that two servers can be compared.

use sqlx::mysql::{MySqlDatabaseError, MySqlPoolOptions, MySqlQueryResult, MySqlRow};
use sqlx::{Connection, MySqlPool, Row, Statement, raw_sql};

use super::support::PATIENCE;

/// Runs all of it on the server at `url`.
pub(crate) fn run(url: &str) -> String {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut told = Vec::new();
    let end = runtime.block_on(async { tokio::time::timeout(PATIENCE * 2, work(url, &mut told)).await });
    let end = end.expect("in time");
    assert!(end.is_ok(), "{url}: {end:?} behind {:?}", told.last());
    told.join("\n")
}

async fn work(url: &str, told: &mut Vec<String>) -> Result<(), sqlx::Error> {
    let pool = MySqlPoolOptions::new().max_connections(4).connect(url).await?;
    raw_sql("DROP TABLE IF EXISTS crates").execute(&pool).await?;
    raw_sql(
        "CREATE TABLE crates (id BIGINT AUTO_INCREMENT PRIMARY KEY, name VARCHAR(60) UNIQUE, amount DOUBLE, full BOOL NOT NULL \
         DEFAULT 0, data LONGBLOB, big BIGINT UNSIGNED)",
    )
    .execute(&pool)
    .await?;
    types(&pool, told).await?;
    transactions(&pool, told).await?;
    errors(&pool, told).await;
    reads_after_writes(&pool, told).await?;
    session_state(&pool, told).await?;
    pool.close().await;
    Ok(())
}

fn done(result: &MySqlQueryResult) -> String {
    format!("{} {}", result.last_insert_id(), result.rows_affected())
}

/// Values of every kind through prepared statements, and back.
async fn types(pool: &MySqlPool, told: &mut Vec<String>) -> Result<(), sqlx::Error> {
    let sql = "INSERT INTO crates (name, amount, full, data, big) VALUES (?, ?, ?, ?, ?)";
    for (n, name) in [Some("Zoë 💡"), Some("日本"), Some(""), None].into_iter().enumerate() {
        let data = (n != 1).then(|| vec![n as u8; n * 40_000]);
        let insert =
            sqlx::query(sql).bind(name).bind(n as f64 / 3.0).bind(n % 2 == 0).bind(data).bind(u64::MAX - n as u64);
        told.push(done(&insert.execute(pool).await?));
    }
    let statement = "SELECT id, name, amount, full, LENGTH(data), big FROM crates WHERE id >= ? ORDER BY id";
    type Crate = (i64, Option<String>, f64, bool, Option<i64>, u64);
    let rows: Vec<Crate> = sqlx::query_as(statement).bind(1).fetch_all(pool).await?;
    told.extend(rows.iter().map(|row| format!("{row:?}")));
    let rows: Vec<MySqlRow> = raw_sql("SELECT id, name FROM crates ORDER BY id").fetch_all(pool).await?;
    told.extend(
        rows.iter().map(|row| format!("{:?} {:?}", row.get::<i64, _>(0), row.get::<Option<String>, _>("name"))),
    );
    let data: Vec<u8> = sqlx::query_scalar("SELECT data FROM crates WHERE id = ?").bind(4).fetch_one(pool).await?;
    told.push(format!("{} {:?}", data.len(), data.iter().all(|byte| *byte == 3)));
    // More statements than sqlx keeps: it closes some, and prepares them anew.
    let mut connection = pool.acquire().await?;
    for round in 0..2 {
        for n in 0..120 {
            let sql = sqlx::AssertSqlSafe(format!("SELECT COUNT(*) + {n} FROM crates WHERE id > ?"));
            let sum: i64 = sqlx::query_scalar(sql).bind(1).fetch_one(&mut *connection).await?;
            assert_eq!(sum, 3 + n, "round {round}");
        }
    }
    let prepared = sqlx::Executor::prepare(&mut *connection, sqlx::SqlStr::from_static(statement)).await?;
    told.push(format!("{:?}", prepared.columns()));
    Ok(())
}

async fn transactions(pool: &MySqlPool, told: &mut Vec<String>) -> Result<(), sqlx::Error> {
    for end in ["commit", "rollback", "drop"] {
        let mut transaction = pool.begin().await?;
        let insert = sqlx::query("INSERT INTO crates (name) VALUES (?)").bind(end).execute(&mut *transaction).await?;
        told.push(insert.rows_affected().to_string());
        // Inside, it is seen; what is begun within is undone by itself.
        let mut inner = transaction.begin().await?;
        sqlx::query("DELETE FROM crates").execute(&mut *inner).await?;
        inner.rollback().await?;
        let seen: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM crates WHERE name = ?")
            .bind(end)
            .fetch_one(&mut *transaction)
            .await?;
        told.push(format!("{end} {seen}"));
        match end {
            "commit" => transaction.commit().await?,
            "rollback" => transaction.rollback().await?,
            _ => drop(transaction),
        }
    }
    let mut reading = pool.begin_with("START TRANSACTION READ ONLY").await?;
    let names: Vec<Option<String>> =
        sqlx::query_scalar("SELECT name FROM crates ORDER BY id").fetch_all(&mut *reading).await?;
    told.push(format!("{names:?}"));
    let refused = sqlx::query("INSERT INTO crates (name) VALUES ('x')").execute(&mut *reading).await.map(|_| ());
    told.push(error(refused));
    reading.rollback().await
}

fn error(result: Result<(), sqlx::Error>) -> String {
    let error = result.expect_err("an error");
    let known = error.as_database_error().unwrap_or_else(|| panic!("not an error of the server: {error}"));
    let number = known.downcast_ref::<MySqlDatabaseError>().number();
    format!("{number} {:?} {:?} {}", known.code(), known.kind(), known.message())
}

async fn errors(pool: &MySqlPool, told: &mut Vec<String>) {
    for sql in ["INSERT INTO crates (name) VALUES ('日本')", "SELECT * FROM nowhere", "SELEKT 1"] {
        told.push(error(sqlx::query(sql).execute(pool).await.map(|_| ())));
        told.push(error(raw_sql(sql).execute(pool).await.map(|_| ())));
    }
    let none: Option<i64> =
        sqlx::query_scalar("SELECT id FROM crates WHERE id = 0").fetch_optional(pool).await.expect("none");
    told.push(format!("{none:?}"));
}

/// Whatever connection of the pool reads: it has what this program wrote on it, and no program tells two servers apart.
async fn reads_after_writes(pool: &MySqlPool, told: &mut Vec<String>) -> Result<(), sqlx::Error> {
    raw_sql("CREATE TABLE IF NOT EXISTS people (client INT PRIMARY KEY, n INT NOT NULL)").execute(pool).await?;
    let client = |client: i32| async move {
        let mut connection = pool.acquire().await?;
        sqlx::query("INSERT INTO people VALUES (?, 0)").bind(client).execute(&mut *connection).await?;
        for n in 1..=20 {
            sqlx::query("UPDATE people SET n = n + 1 WHERE client = ?").bind(client).execute(&mut *connection).await?;
            let read = sqlx::query_scalar("SELECT n FROM people WHERE client = ?").bind(client);
            let seen: i32 = read.fetch_one(&mut *connection).await?;
            assert_eq!(seen, n, "client {client} misses what it wrote");
        }
        Ok::<_, sqlx::Error>(())
    };
    let (a, b, c, d) = tokio::join!(client(1), client(2), client(3), client(4));
    a.and(b).and(c).and(d)?;
    let sum: i64 = sqlx::query_scalar("SELECT CAST(SUM(n) AS SIGNED) FROM people FOR UPDATE").fetch_one(pool).await?;
    told.push(sum.to_string());
    raw_sql("DROP TABLE people").execute(pool).await?;
    Ok(())
}

/// What sqlx has set when it logged on, and what a program sets, is there for every statement.
async fn session_state(pool: &MySqlPool, told: &mut Vec<String>) -> Result<(), sqlx::Error> {
    let mut connection = pool.acquire().await?;
    for _ in 0..3 {
        let row: (String, String, String) = sqlx::query_as("SELECT @@sql_mode, @@time_zone, @@collation_connection")
            .fetch_one(&mut *connection)
            .await?;
        told.push(format!("{row:?}"));
        let piped: String =
            sqlx::query_scalar("SELECT 'a' || name FROM crates WHERE id = 2").fetch_one(&mut *connection).await?;
        told.push(piped);
    }
    connection.ping().await?;
    raw_sql("SET @mine = 7; SET time_zone = '+05:00'").execute(&mut *connection).await?;
    let row: (Option<i64>, String) = sqlx::query_as("SELECT @mine, @@time_zone").fetch_one(&mut *connection).await?;
    told.push(format!("{row:?}"));
    connection.close().await
}
